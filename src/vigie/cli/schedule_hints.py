"""What somebody may have meant whose WHEN cannot be read: a whole line of a crontab, words without quotes."""

from __future__ import annotations

import re

from vigie.errors import ExpressionError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["check_words", "hinted"]

#: Fields of a cron line, as a shell leaves them without quotes.
_FIELD = re.compile(r"[\d*?LW#,/\-]+|[a-zA-Z]{3}(?:-[a-zA-Z]{3})?")
#: Settings that a crontab has between its lines, and what says the same here.
_SETTINGS = {
    "CRON_TZ": "--timezone", "TZ": "--timezone", "MAILTO": "an alert", "SHELL": "--shell", "PATH": "--env PATH=…",
}  # fmt: skip


def check_words(action: str, when: Sequence[str], *, says_when: bool, says_what: bool) -> None:
    """Refuse an ``add`` that lacks something, in the words of the command line.

    Raises
    ------
    UsageError
        With what to type.
    """
    if len(when) >= 5 and all(_FIELD.fullmatch(word) for word in when):
        raise UsageError(f"{action}: a cron line is one word: put it in quotes", f'"{" ".join(when)}"')
    if not says_when:
        raise UsageError(f"{action}: nothing says when", 'vigie schedule add NAME "daily 02:00" -- CMD ARG…')
    if not says_what:
        hint = 'vigie schedule add NAME "daily 02:00" -- CMD ARG…; or --shell LINE, --script FILE, -f MODULE:FUNCTION'
        raise UsageError(f"{action}: nothing to run: it stands behind --", hint)


def hinted(error: ExpressionError, when: Sequence[str], *, says_what: bool) -> UsageError:
    """Give an error about WHEN with what was perhaps meant, where that can be told."""
    for text in when:
        words = text.split()
        setting = text.partition("=")[0].strip()
        if setting in _SETTINGS and "=" in text:
            return UsageError(f"{text!r} is a setting of a crontab", f"here it is {_SETTINGS[setting]}")
        if len(words) > 5 and all(_FIELD.fullmatch(word) for word in words[:5]) and not _FIELD.fullmatch(words[-1]):
            line, rest = " ".join(words[:5]), words[5:]
            user = (
                f" (without the user, {rest[0]})"
                if len(rest) > 1 and re.fullmatch(r"[a-z_][a-z0-9_-]*", rest[0])
                else ""
            )
            command = " ".join(rest[1:] if user else rest)
            return UsageError(error.message, f'the command stands behind --{user}: "{line}" --shell {command!r}')
        if text == error.text and not says_what and (text.startswith(("/", "./", "~")) or len(when) > 1):
            return UsageError(error.message, "what runs stands behind --: vigie schedule add NAME WHEN -- CMD ARG…")
    return error
