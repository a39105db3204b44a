"""The parser of one verb: wrong usage is an error like any other, help has examples.

argparse's own messages name its parts ("argument -n/--lines: invalid int value",
"unrecognized arguments") and, with them, dump the usage. Here options are looked
through before argparse sees them, and what it still refuses is said in our words:
what is wrong, what was perhaps meant, and where the help is.
"""

from __future__ import annotations

import argparse

from vigie.errors import UsageError
from vigie.model import JOB_STATES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, NoReturn

__all__ = ["Parser", "meant", "no_option"]


class Parser(argparse.ArgumentParser):
    """An argument parser that raises :class:`UsageError` and takes no abbreviations."""

    def __init__(self, **how: object) -> None:
        how.setdefault("allow_abbrev", False)
        how.setdefault("exit_on_error", False)
        how.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**how)  # type: ignore[arg-type]  # whatever argparse takes
        self.register("type", int, _whole)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Read the words; what is left over is refused here, where the verb's action is known."""
        words = list(args or ())
        self._look_through(words)
        try:
            found, rest = super().parse_known_args(words, namespace)
        except argparse.ArgumentError as error:
            if error.argument_name is None:
                self.error(error.message)
            self._refuse(f"{_typed(error.argument_name, words)}: {error.message}")
        if rest:
            self._take(rest, found)
        return found, []

    def error(self, message: str) -> NoReturn:
        """Refuse for want of a word: that is all that comes here."""
        names = message.rpartition(": ")[2].split(", ")
        for action in self._actions:
            if action.metavar == names[0] and action.help:
                self._refuse(f"{names[0]} is missing: {action.help}")
        self._refuse(f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} missing")

    def _refuse(self, message: str, *meant: str) -> NoReturn:
        hint = f"{self.prog} --help"
        raise UsageError(f"{self._name}: {message}", f"did you mean {' or '.join(meant)}? · {hint}" if meant else hint)

    @property
    def _name(self) -> str:
        """The verb, and its action if it has some."""
        return self.prog[6:] or "vigie"

    # --- options ------------------------------------------------------------------

    def _look_through(self, words: Sequence[str]) -> None:
        """Refuse options that there are not, and those without their value or with one too many."""
        if {"-h", "--help"} & set(words):
            return
        known = self._option_string_actions
        actions = any(isinstance(action, argparse._SubParsersAction) for action in self._actions)
        awaits: str | None = None
        for word in words:
            if word == "--":
                break
            if awaits is not None:
                if _is_option(word):
                    perhaps = "" if word.startswith("--") else f"; if {word} is it: {awaits}={word}"
                    self._refuse(f"{awaits} needs a value{perhaps}")
                awaits = None
            elif _is_option(word):
                awaits = self._option(word, known)
            elif actions:
                # What stands behind an action is the action's.
                return
        if awaits is not None:
            self._refuse(f"{awaits} needs a value")

    def _option(self, word: str, known: dict[str, argparse.Action]) -> str | None:
        """Check one option; give its name if the next word is its value."""
        flag, equals, value = word.partition("=")
        action = known.get(flag)
        if action is None and not word.startswith("--"):
            flag, value, equals = word[:2], word[2:], ""
            action = known.get(flag)
        if action is None:
            raise no_option(flag if word.startswith("--") else word, known, self.prog)
        if action.nargs != 0:
            return None if equals or value else flag
        if equals:
            self._refuse(f"{flag} takes no value")
        return None

    # --- words --------------------------------------------------------------------

    def _take(self, rest: Sequence[str], found: argparse.Namespace) -> None:
        """Give words that argparse left over to the argument that takes any number, or refuse them."""
        places = [action for action in self._actions if not action.option_strings]
        if places and places[-1].nargs in ("*", "+"):
            # argparse fills it once, and leaves what stands behind a later option.
            getattr(found, places[-1].dest).extend(rest)
            return
        if places:
            names = " ".join(str(action.metavar) for action in places)
            self._refuse(f"{rest[0]} is one word too many: it takes {names} and no more")
        self._refuse(f"it takes only options, and {rest[0]} is none", *self._as_option(rest[0]))

    def _as_option(self, word: str) -> list[str]:
        """Guess the filter that a bare word stands for."""
        if "--state" not in self._option_string_actions:
            return []
        if word.isdigit():
            return [f"vigie show {word}"]
        return [f"--state {word}" if word in JOB_STATES else f"--name {word}"]

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse a word that is none of those that may stand there."""
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        before = "" if action.option_strings else f"{self.prog} "
        close = [f"{before}{word}" for word in meant(str(value), choices)]
        self._refuse(f"{value} is none of {', '.join(choices)}", *close)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def meant(word: str, known: Iterable[str], most: int = 1) -> list[str]:
    """Give what a mistyped word was perhaps meant to be.

    >>> meant("stpo", ["start", "stop"])
    ['stop']
    """
    from difflib import get_close_matches

    return get_close_matches(word, list(known), most)


def no_option(flag: str, known: Iterable[str], prog: str) -> UsageError:
    """Make the error of an option that there is not.

    >>> no_option("--gace", ["--grace"], "vigie stop").hint
    'did you mean --grace? · vigie stop --help'
    """
    close = meant(flag, known)
    hint = f"{prog} --help"
    return UsageError(
        f"{prog[6:] or 'vigie'}: there is no option {flag}", f"did you mean {close[0]}? · {hint}" if close else hint
    )


def _is_option(word: str) -> bool:
    """Tell an option from a word; ``-`` is stdin and ``-5`` a number."""
    return len(word) > 1 and word.startswith("-") and not _is_number(word)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _typed(name: str, words: Sequence[str]) -> str:
    """Give the form of an option (``-n/--lines``) that was typed."""
    forms = name.split("/")
    return next((form for form in forms if any(word.startswith(form) for word in words)), forms[-1])
