"""Records are lines that give back exactly what went in."""

from __future__ import annotations

import io
import json

from hypothesis import given
from hypothesis import strategies as st

from vigie.records import ABSENT, encode, iter_records

any_text = st.text(st.characters(codec=None, exclude_categories=()))


@given(st.one_of(any_text, st.binary()))
def test_text_and_bytes_come_back(text):
    line = encode("output", 5, text=text)
    assert line.count(b"\n") == 1
    (record,) = iter_records(line)
    expected = text
    if isinstance(text, str):
        try:
            expected = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            expected = text.encode("utf-8", "surrogatepass")
    assert record.content == expected
    assert (record.stream, record.time, record.seq, record.end) == ("output", 5, 0, len(line))
    assert record.data is ABSENT


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | any_text, lambda c: st.lists(c) | st.dictionaries(any_text, c)
    )
)
def test_values_come_back(value):
    (record,) = iter_records(encode("output", 5, data=json.loads(json.dumps(value))))
    shown = json.loads(json.dumps(value).encode())
    if "\\ud" not in json.dumps(value):
        assert record.data == shown
    assert record.content is None


@given(st.lists(st.text(), min_size=1, max_size=6), st.data())
def test_offsets_name_records_and_a_torn_line_is_left(lines, data):
    whole = b"".join(encode("output", i, text=t) for i, t in enumerate(lines))
    found = list(iter_records(whole))
    assert [r.text for r in found] == lines
    for i, record in enumerate(found):
        assert [r.text for r in iter_records(whole, record.seq)] == lines[i:]
        assert record.end == (found[i + 1].seq if i + 1 < len(found) else len(whole))
    cut = data.draw(st.integers(0, len(whole)))
    torn = list(iter_records(io.BytesIO(whole[:cut])))
    assert [r.text for r in torn] == [r.text for r in found if r.end <= cut]


def test_everything_at_once():
    line = encode("error", 9, text="t", level="critical", name='a"b', raw=True)
    (record,) = iter_records(line)
    assert (record.level, record.name, record.raw, record.text) == ("critical", 'a"b', True, "t")
    line = encode("output", 9, pickled=b"\x00sig", shown="<Thing>")
    (record,) = iter_records(line)
    assert (record.pickled, record.shown, record.text) == (b"\x00sig", "<Thing>", None)
    (record,) = iter_records(encode("output", 9, json_data="[1, null]"))
    assert record.data == [1, None]
    (record,) = iter_records(encode("output", 9, data=None))
    assert record.data is None


def test_unknown_fields_are_kept_and_damage_is_passed_over():
    good = b'{"t":1,"s":"progress","new":7,"data":{"done":1}}\n'
    found = list(iter_records(b"garbage\n[1]\n" + good))
    assert [r.data for r in found] == [{"done": 1}]
    assert found[0].fields["new"] == 7
    assert found[0].seq == len(b"garbage\n[1]\n")
