"""Environment files: what is understood, and what is refused by its line."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vigie.dotenv
from vigie.dotenv import parse, read
from vigie.errors import UsageError


def test_examples_of_the_docstrings() -> None:
    assert doctest.testmod(vigie.dotenv).failed == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("\n\n  # nothing\n", {}),
        ("A=1", {"A": "1"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("  A = 1  ", {"A": "1"}),
        ("export A=1", {"A": "1"}),
        ("export\tA=1", {"A": "1"}),
        ("A=", {"A": ""}),
        ("A=\nB=2", {"A": "", "B": "2"}),
        ("A=#x", {"A": ""}),
        ("A=x#y", {"A": "x#y"}),
        ("A=x # y", {"A": "x"}),
        ("A='x # y'", {"A": "x # y"}),
        ("A='$HOME \\n'", {"A": "$HOME \\n"}),
        ('A="a\\nb\\t\\"c\\" \\\\ \\$"', {"A": 'a\nb\t"c" \\ $'}),
        ('A="line 1\nline 2"\nB=2', {"A": "line 1\nline 2", "B": "2"}),
        ("A='line 1\nline 2' # end\nB=2", {"A": "line 1\nline 2", "B": "2"}),
        ("A=$(touch /tmp/never) `id`", {"A": "$(touch /tmp/never) `id`"}),
        ("A=a=b=c", {"A": "a=b=c"}),
        ("A=1\nA=2", {"A": "2"}),
        ("A=a b", {"A": "a b"}),
        ('A="\\x"', {"A": "\\x"}),
    ],
)
def test_files(text: str, expected: dict[str, str]) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("A", 1, "is not KEY=value"),
        ("A=1\n\nB C=2", 3, "is not KEY=value"),
        ("=1", 1, "is not KEY=value"),
        ("1A=2", 1, "is not KEY=value"),
        ("A=1\nB='x", 2, "nothing closes"),
        ('A="x" y', 1, "behind the closing quote"),
    ],
)
def test_what_is_not_understood_is_named_by_its_line(text: str, line: int, why: str) -> None:
    with pytest.raises(UsageError, match=rf"^f\.env, line {line}: .*{why}"):
        parse(text, "f.env")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read(str(tmp_path / "none"))


def test_bytes_that_are_no_utf8_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"\xef\xbb\xbfA=\xff\n")
    assert read(str(path)) == {"A": "\udcff"}


@given(st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True), st.text(max_size=20)))
def test_double_quoted_values_read_back(values: dict[str, str]) -> None:
    values = {key: value.replace("\r\n", "\n") for key, value in values.items()}
    text = "\n".join(
        f'{key}="{value.replace(chr(92), chr(92) * 2).replace(chr(34), chr(92) + chr(34))}"'
        for key, value in values.items()
    )
    assert parse(text) == values
