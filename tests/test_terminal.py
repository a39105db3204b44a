"""Nothing that a job writes can harm the terminal it is shown on; tables align."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vigie.terminal import PLAIN, Paint, Sanitizer, Table, ago, cells, clean, clip, lasting, moment, width

BIDI = {0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def harmful(text: str) -> list[str]:
    return [
        char
        for char in text
        if (unicodedata.category(char) == "Cc" and char not in "\n\t")
        or ord(char) in BIDI
        or 0xD800 <= ord(char) < 0xE000
    ]


def shown(*pieces: bytes) -> str:
    sanitizer = Sanitizer()
    return "".join(sanitizer.feed(piece) for piece in pieces) + sanitizer.feed(b"", final=True)


NASTY = st.sampled_from(
    [b"\x1b[2J", b"\x1b]0;title\x07", b"\x9b31m", "\x9b31m".encode(), "\u202egnp.exe".encode(), b"\r", b"\r\n",
     b"\x00", b"\x7f", b"\x1bP+q544e\x1b\\", b"\x08\x08", "é日".encode(), b"\xff\xfe", b"\x1b[6n"]
)  # fmt: skip


@pytest.mark.slow
@given(st.lists(NASTY | st.binary(max_size=8), max_size=12))
@example([b"\r"])
@example([b"a\r", b"\nb"])
def test_no_control_passes_but_line_ends_tabs_and_a_rewritten_line(pieces):
    assert harmful(shown(*pieces).replace("\r\x1b[K", "")) == []


@given(st.lists(NASTY | st.binary(max_size=8), max_size=12))
@example([b"\r", b"\r\n"])
def test_how_the_bytes_are_cut_makes_no_difference(pieces):
    whole = b"".join(pieces)
    alone = [whole[i : i + 1] for i in range(len(whole))]
    again = "\r\x1b[K"

    def joined(text: str) -> str:
        # Returns in a row rewrite an empty line: as one.
        while again * 2 in text:
            text = text.replace(again * 2, again)
        return text

    assert joined(shown(*alone)) == joined(shown(whole))


@given(st.text())
def test_plain_text_passes_unchanged(text):
    if not harmful(text) and "\u2028" not in text and "\u2029" not in text:
        assert shown(text.encode()) == text


@given(st.text() | st.text(alphabet=st.characters(categories=["Cs", "Cc"])), st.binary())
def test_a_clean_cell_is_one_harmless_line(text, data):
    for given_text in (text, data.decode("utf-8", "surrogateescape")):
        made = clean(given_text)
        assert harmful(made) == []
        assert "\n" not in made
        assert "\t" not in made


def test_sequences_become_visible():
    assert shown(b"a\x1b]0;x\x07b") == "a\u241b]0;x\u2407b"
    assert shown(b"one\r\ntwo\r") == "one\ntwo\r\x1b[K"
    assert shown(b"10%\r20%\n") == "10%\r\x1b[K20%\n"
    assert shown("\u202e".encode()) == "<U+202E>"
    assert shown(b"\xff") == "\\xff"


def test_a_character_cut_in_two_is_one():
    assert shown("日".encode()[:2], "日".encode()[2:]) == "日"


@pytest.mark.slow
@given(
    st.lists(st.lists(st.text(max_size=30), min_size=3, max_size=3), min_size=1, max_size=5),
    st.integers(8, 80),
    st.permutations([0, 1, 2]).flatmap(lambda order: st.integers(0, 2).map(lambda n: order[:n])),
)
def test_no_line_is_longer_than_the_room(rows, room, spare):
    for encoding in (None, "ascii"):
        table = Table(["A", "B", "C"], flexible=2, spare=spare, long=(0,))
        lines = table.lines(rows, room=room, paint=Paint(on=False, encoding=encoding))
        assert all(cells(line) <= room for line in lines)
        assert len(lines) == len(rows) + 1


def test_spare_columns_go_in_their_order_and_only_where_they_must():
    row = ["12", "imports", "1h5m", "x" * 30]

    def headers(room):
        return Table(["ID", "QUEUE", "TOOK", "WHAT"], spare=(1, 2)).lines([row], room=room)[0].split()

    assert headers(None) == headers(60) == headers(31) == ["ID", "QUEUE", "TOOK", "WHAT"]
    assert headers(30) == headers(22) == ["ID", "TOOK", "WHAT"]
    assert headers(21) == headers(8) == ["ID", "WHAT"]


def test_what_an_encoding_lacks_is_written_plainly():
    text = "a → b… · ─│└█ ␛ ␊ é 日 \udcff"
    assert text.encode("ascii", PLAIN).decode() == "a -> b... - -|+# ^[ ^J \\xe9 \\u65e5 \\udcff"
    assert "é · …".encode("latin-1", PLAIN) == b"\xe9 \xb7 ..."
    brush = Paint(on=False, encoding="ascii")
    assert Table(["A"]).lines([["é" * 10]], room=12, paint=brush) == ["A", "\\xe9\\xe9\\..."]


def test_columns_align_over_pages_and_with_wide_characters():
    table = Table(["ID", "NAME", "X"], right=(0,))
    first = table.lines([["1", "日本", "x"], ["10", "abc", "x"]])
    assert first == ["ID  NAME  X", " 1  日本  x", "10  abc   x"]
    assert table.lines([["2", "a", "x"]], header=False) == [" 2  a     x"]


@given(st.text(alphabet="ab日e\u0301", max_size=20), st.integers(0, 12))
def test_clip_fits(text, room):
    made = clip(text, room)
    assert cells(made) <= room
    assert (made == text) == (cells(text) <= room)


@pytest.mark.parametrize(("on", "expected"), [(True, "\x1b[31mx\x1b[0m"), (False, "x")])
def test_colours_only_where_they_are_wanted(on, expected):
    assert Paint(on)("failed", "x") == expected
    assert Paint(on)(None, "x") == "x"
    assert Paint(on)("nothing", "x") == "x"


def test_columns_of_the_environment_have_the_first_word(monkeypatch):
    monkeypatch.setenv("COLUMNS", "33")
    assert width() == 33
    monkeypatch.setenv("COLUMNS", "none")
    assert width(None) > 0


def test_figures_for_people():
    hour = 3600 * 1_000_000
    assert ago(0, 25 * hour + 5) == "1d1h ago"
    assert ago(2 * hour, 0) == "in 2h"
    assert lasting(-5) == "0s"
    assert len(moment(0, 100 * hour)) == len("1970-01-01 00:00")
    assert ":" in moment(50 * hour, 50 * hour + 1)
