"""Options as a table: for verbs behind whose options stands a command, and that have to be quick.

WHAT begins at the first word that is neither an option nor an option's value: what stands behind it belongs
to the command, however much it looks like ours. Building argparse's parser, and what that imports, would be
a third of the time that ``vigie start`` takes; it is built for the help alone.
"""

from __future__ import annotations

from vigie.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any

    #: Flags, destination, metavar (None for a switch, with + for one that may be repeated), help.
    Option = tuple[str, str, str | None, str]
    Group = tuple[str | None, list[Option]]

__all__ = ["Parsed", "Table", "wrong_option"]


class Parsed:
    """What :meth:`Table.parse` found, under the names that a parser would use."""

    what: list[str]
    literal: bool

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class Table:
    """The options of some verbs.

    Parameters
    ----------
    groups:
        (title, options): without a title they stand behind all others in the help.

    >>> table = Table([("limits", [("-j --jobs", "jobs", "N", "so many at once"), ("--fast", "fast", None, "")])])
    >>> found = table.parse(["-j4", "--", "ls", "-l"], "vigie map")
    >>> found.jobs, found.fast, found.what, found.literal
    ('4', False, ['ls', '-l'], True)
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = groups
        #: Flag → (destination, metavar).
        self.names: dict[str, tuple[str, str | None]] = {
            flag: (name, metavar)
            for _, options in groups
            for flags, name, metavar, _ in options
            for flag in flags.split()
        }
        self.names |= {"-h": ("help", None), "--help": ("help", None)}

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Add the options to a parser, for its help."""
        for title, options in self.groups:
            group = parser if title is None else parser.add_argument_group(title)
            for flags, destination, metavar, text in options:
                how: dict[str, Any] = {"dest": destination, "help": text.replace("%", "%%")}
                if metavar is None:
                    how["action"] = "store_true"
                elif metavar.endswith("+"):
                    how |= {"action": "append", "default": [], "metavar": metavar[:-1]}
                else:
                    how["metavar"] = metavar
                group.add_argument(*flags.split(), **how)

    def defaults(self) -> dict[str, Any]:
        """Give what each option is when it is not given."""
        return {
            name: False if metavar is None else [] if metavar.endswith("+") else None
            for _, options in self.groups
            for _, name, metavar, _ in options
        }

    def parse(self, words: Sequence[str], prog: str) -> Parsed | None:
        """Read a command line; None when help is asked for.

        Raises
        ------
        UsageError
            When an option is not known, has no value, or has one that it does not take.
        """
        options, what, literal = self.split(words)
        found = Parsed()
        vars(found).update(self.defaults(), what=what, literal=literal)
        rest = options[::-1]
        while rest:
            word = rest.pop()
            flag, value = self._flag(word, prog)
            if flag in ("-h", "--help"):
                return None
            name, metavar = self.names[flag]
            if metavar is None:
                if value is not None and word.startswith("--"):
                    raise wrong_option(prog, f"{flag} takes no value")
                if value is not None:
                    rest.append(f"-{value}")  # short switches may stand together
                setattr(found, name, True)
                continue
            if value is None and rest:
                value = rest.pop()
            if value is None:
                raise wrong_option(prog, f"{flag} needs a value")
            if metavar.endswith("+"):
                getattr(found, name).append(value)
            else:
                setattr(found, name, value)
        return found

    def _flag(self, word: str, prog: str) -> tuple[str, str | None]:
        """Split ``--option=value`` and ``-nvalue``."""
        flag, equals, value = word.partition("=")
        if word.startswith("--") and flag in self.names:
            return flag, value if equals else None
        if not word.startswith("--") and word[:2] in self.names:
            return word[:2], word[2:] or None
        from vigie.cli.parser import no_option

        raise no_option(flag, list(self.names), prog)

    def split(self, words: Sequence[str]) -> tuple[list[str], list[str], bool]:
        """Split what was typed into options, WHAT, and whether ``--`` stood between."""
        at = 0
        while at < len(words):
            word = words[at]
            if word == "--":
                return list(words[:at]), list(words[at + 1 :]), True
            if len(word) < 2 or not word.startswith("-"):
                break
            # Its value too, even one that begins with a dash.
            at += 2 if self._awaits(word) else 1
        return list(words[:at]), list(words[at:]), False

    def _awaits(self, word: str) -> bool:
        """Tell whether the value of the option in a word, or of the last switch in it, is the next word."""
        if not word.startswith("--"):
            while len(word) > 2 and self.names.get(word[:2], ("", ""))[1] is None:
                word = "-" + word[2:]
        return self.names.get(word, ("", None))[1] is not None


def wrong_option(prog: str, message: str) -> UsageError:
    """Say what is wrong with an option."""
    return UsageError(f"{prog[6:]}: {message}", f"{prog} --help")
