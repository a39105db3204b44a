"""Files of environment variables, as ``--env-file`` reads them.

``KEY=value`` lines, with ``export`` in front if one likes, comments, and values
in single quotes (as they stand) or double quotes (with ``\\n``, ``\\t``, ``\\"``,
``\\\\`` and ``\\$``), which may span lines. Nothing is expanded and nothing is run:
a ``$`` is a ``$``.
"""

from __future__ import annotations

from vigie.errors import UsageError

__all__ = ["parse", "read"]

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "$": "$", "`": "`", "\n": ""}


def read(path: str) -> dict[str, str]:
    """Read a file; values that are no UTF-8 are decoded by surrogateescape.

    Raises
    ------
    UsageError
        When the file cannot be read, or a line is not understood (with its number).
    """
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline=None) as file:
            return parse(file.read(), path)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "give --env-file a file of KEY=value lines") from None


def parse(text: str, name: str = "the environment file") -> dict[str, str]:
    """Read the text of such a file; ``name`` stands in errors.

    >>> parse('# db\\nexport USER=eve\\nPASS="a b"  # old\\nURL=http://x/#top')
    {'USER': 'eve', 'PASS': 'a b', 'URL': 'http://x/#top'}
    """
    text = text.replace("\r\n", "\n")
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        end = _line_end(text, at)
        line = text[at:end].strip()
        if not line or line.startswith("#"):
            at = end + 1
            continue
        key, start = _key(text, at, end, name)
        found[key], at = _value(text, start, name)
    return found


def _key(text: str, at: int, end: int, name: str) -> tuple[str, int]:
    """Give the key of a line and where its value starts."""
    key, equals, _ = text[at:end].partition("=")
    start = at + len(key) + 1
    words = key.split()
    if words[:1] == ["export"] and len(words) == 2:
        del words[0]
    if not equals or len(words) != 1 or not _is_name(words[0]):
        raise _wrong(text, at, name, "is not KEY=value")
    return words[0], start


def _is_name(word: str) -> bool:
    """Tell whether a word can be the name of a variable; dots and dashes are used in practice."""
    return not word[0].isdigit() and all(c.isalnum() or c in "_.-" for c in word) and word.isascii()


def _value(text: str, at: int, name: str) -> tuple[str, int]:
    """Give the value that starts here, and where the next line starts."""
    while text[at : at + 1] in (" ", "\t"):
        at += 1
    quote = text[at : at + 1]
    if quote not in ("'", '"'):
        end = _line_end(text, at)
        value = text[at:end]
        # A # is a comment only behind a space: URLs and colours hold it too.
        for space in (" #", "\t#"):
            value = value.partition(space)[0]
        return ("" if value.startswith("#") else value.strip()), end + 1
    value, after = _quoted(text, at, quote, name)
    end = _line_end(text, after)
    rest = text[after:end].strip()
    if rest and not rest.startswith("#"):
        raise _wrong(text, after, name, f"has {rest!r} behind the closing quote")
    return value, end + 1


def _quoted(text: str, start: int, quote: str, name: str) -> tuple[str, int]:
    """Give what stands between quotes, and where they end."""
    out: list[str] = []
    at = start + 1
    while at < len(text):
        c = text[at]
        if c == quote:
            return "".join(out), at + 1
        if c == "\\" and quote == '"' and text[at + 1 : at + 2] in _ESCAPES and at + 1 < len(text):
            out.append(_ESCAPES[text[at + 1]])
            at += 2
            continue
        out.append(c)
        at += 1
    raise _wrong(text, start, name, f"opens a {quote} that nothing closes")


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _wrong(text: str, at: int, name: str, what: str) -> UsageError:
    number = text.count("\n", 0, at) + 1
    return UsageError(f"{name}, line {number}: the line {what}", "lines are KEY=value, with quotes where needed")
