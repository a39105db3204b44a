"""The words of a phrase, taken one after the other; errors say at which of them reading stopped."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import NoReturn

from vigie.errors import ExpressionError, UsageError
from vigie.values import parse_duration

__all__ = ["Words", "near", "quoted"]

_WORD = re.compile(r"[^\s,]+|,")
_RAW = re.compile(r'"(?P<quoted>(?:[^"\\]|\\.)*)"(?=\s|$)|(?P<bare>[^\s"]\S*)', re.DOTALL)
_DURATION = re.compile(r"\d[\d.]*\s*[^\W\d]+(?:\s*\d[\d.]*\s*[^\W\d]+)*|[pP]\S+")


class Words:
    """A phrase and how far it has been read.

    Parameters
    ----------
    text:
        The phrase.

    >>> words = Words("weekly mon, thu 08:00")
    >>> words.take(), words.take(), words.skip(","), words.peek()
    ('weekly', 'mon', True, 'thu')
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.skip_space()

    @property
    def before(self) -> str:
        """What has been read."""
        return self.text[: self.at].strip()

    def peek(self) -> str:
        """Give the next word in lower case without taking it; empty at the end. A comma is a word."""
        found = _WORD.match(self.text, self.at)
        return found[0].lower() if found else ""

    def take(self) -> str:
        """Take the next word, in lower case; empty at the end."""
        word = self.peek()
        self.at += len(word)
        self.skip_space()
        return word

    def skip(self, *words: str) -> bool:
        """Take the next word if it is one of these."""
        found = self.peek() in words
        if found:
            self.take()
        return found

    def another(self) -> bool:
        """Take a comma or an ``and``, after which a list goes on."""
        return self.skip(",", "and")

    def raw(self, name: str, expected: str) -> str:
        """Take what stands up to the next space as it is, or within double quotes.

        Parameters
        ----------
        name, expected:
            What is wanted, for the error if nothing is there.
        """
        found = _RAW.match(self.text, self.at)
        if found is None:
            self.fail(name, expected)
        self.at = found.end()
        self.skip_space()
        if found["quoted"] is not None:
            return re.sub(r"\\(.)", r"\1", found["quoted"], flags=re.DOTALL)
        return str(found["bare"])

    def rest(self) -> str:
        """Take all that is left."""
        left, self.at = self.text[self.at :].rstrip(), len(self.text)
        return left

    def duration(self, least: int = 1) -> int:
        """Take a duration, in µs: ``5m``, ``1h 30m``, ``2 hours``, ``PT5M``; a unit must be there."""
        found = _DURATION.match(self.text, self.at)
        expected = "one such as 90s, 5m or 1h30m"
        if found is None:
            self.fail("duration", expected)
        try:
            length = parse_duration(found[0])
        except UsageError:
            raise ExpressionError(f'"{found[0]}" is no duration', self.text, at=self.at, expected=expected) from None
        if length < least:
            raise ExpressionError(
                f"duration {found[0]} is too short", self.text, at=self.at, expected="a millisecond or more"
            )
        self.at = found.end()
        self.skip_space()
        return length

    def end(self, expected: str = "nothing more") -> None:
        """Refuse what is left over."""
        if self.peek():
            self.fail("word", expected)

    def fail(self, name: str, expected: str, known: Iterable[str] = ()) -> NoReturn:
        """Raise the error of the next word.

        Parameters
        ----------
        name:
            What it should have been: ``time``, ``weekday`` ….
        expected:
            What could stand there.
        known:
            Words of which the nearest is named.
        """
        if not self.peek():
            what = f"the {name} is missing at the end" if name != "word" else "it ends too early"
            raise ExpressionError(what, self.text, at=len(self.text), expected=expected)
        word = self.text[self.at : self.at + max(len(self.peek()), 1)]
        from difflib import get_close_matches

        close = get_close_matches(word.lower(), list(known), 1, 0.7)
        what = f'"{word}" is no {name}' if name != "word" else f'"{word}" cannot stand here'
        raise ExpressionError(what, self.text, at=self.at, expected=f"{close[0]}, or {expected}" if close else expected)

    def skip_space(self) -> None:
        """Go to the next word."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1


def quoted(word: str, keys: Collection[str] = ()) -> str:
    """Write a word so that :meth:`Words.raw` gives it back and nobody takes it for one of ``keys``.

    >>> quoted("a*"), quoted("a b"), quoted("tag", {"tag"})
    ('a*', '"a b"', '"tag"')
    """
    if word and not re.search(r'[\s,"\\]', word) and word.lower() not in keys:
        return word
    return '"' + re.sub(r'(["\\])', r"\\\1", word) + '"'


def near(word: str, known: Iterable[str]) -> str:
    """Give the hint for a name that is none of those known.

    >>> near("untill", ["from", "until"])
    'until; known are from, until'
    """
    words = list(known)
    from difflib import get_close_matches

    close = get_close_matches(word, words, 1)
    return f"{close[0]}; known are {', '.join(words)}" if close else f"one of {', '.join(words)}"
