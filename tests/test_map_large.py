"""Large values in parallel runs: they go by memory that both processes see, and leave nothing behind."""

from __future__ import annotations

import os
import pickle
import time
from pathlib import Path
from typing import Any

import pytest

import vigie
from vigie import segments

pytestmark = pytest.mark.slow

SIZE = 3_000_000


class Plane:
    """Much memory that pickle protocol 5 leaves out of the pickle, as an array of numpy does."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Plane, (pickle.PickleBuffer(self.data),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plane) and bytes(self.data) == bytes(other.data)

    __hash__ = None  # type: ignore[assignment]  # it can be changed


def written(plane: Plane) -> tuple[bytes, Plane]:
    before = bytes(plane.data[:2])
    memoryview(plane.data)[:2] = b"!!"
    return before, plane


def sizes(text: bytes) -> int:
    return len(text)


def segments_open() -> int:
    names = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return sum("vigie-segment" in name for name in names)


@pytest.mark.parametrize("on", ["processes", "threads", "inline"])
def test_arrays_come_as_copies_that_can_be_written(on: Any) -> None:
    items = [Plane(bytearray([65 + number] * SIZE)) for number in range(6)]
    for number, (before, plane) in enumerate(vigie.map(written, items, on=on, limit=2)):
        assert before == bytes([65 + number] * 2)
        assert bytes(plane.data) == b"!!" + bytes([65 + number] * (SIZE - 2))
    if on == "processes":
        assert bytes(items[0].data[:2]) == b"AA", "the worker wrote into our array"


def test_large_bytes_and_texts() -> None:
    items = [b"a" * SIZE, b"", b"b" * SIZE * 3]
    assert list(vigie.map(sizes, items)) == [SIZE, 0, SIZE * 3]
    assert [len(text) for text in vigie.map(str.upper, ["a" * SIZE, "b"])] == [SIZE, 1]


def test_a_large_result_is_mapped_or_copied_and_no_descriptor_stays() -> None:
    found = list(vigie.map(bytearray, [SIZE] * (segments.MOST_MAPPED + 10), limit=2))
    assert all(value == bytes(SIZE) for value in found)
    planes = list(vigie.map(Plane, [bytearray(200_000)] * (segments.MOST_MAPPED + 20), limit=2))
    assert all(plane == planes[0] for plane in planes)
    assert segments_open() <= segments.MOST_MAPPED
    del planes
    assert segments_open() == 0


def test_what_was_not_fetched_is_closed() -> None:
    run = vigie.map(bytearray, [SIZE] * 8, limit=2)
    next(run)
    run.close()
    del run
    assert segments_open() == 0


class Unreadable:
    """Large, and nobody can make it again."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> Any:
        return _refuse, (self.data,)


def _refuse(data: bytes) -> None:
    raise LookupError(f"not {len(data)}")


def test_a_large_result_that_cannot_be_read_fails_alone() -> None:
    found = list(vigie.map(lambda size: Unreadable(bytes(size)) if size else 0, [0, SIZE, 0], errors="collect"))
    assert [type(one.error) for one in found] == [type(None), LookupError, type(None)]


def test_a_large_error_comes_whole() -> None:
    def fail(size: int) -> None:
        raise ValueError("x" * size)

    (one,) = vigie.map(fail, [SIZE], errors="collect")
    assert isinstance(one.error, ValueError)
    assert len(one.error.args[0]) == SIZE


def grows(number: int) -> bytes:
    return b"x" if number < 64 else bytes(SIZE * 2)


def test_large_results_behind_small_ones_do_not_pile_up() -> None:
    run = vigie.map(grows, range(2000), limit=2)
    for _ in range(100):
        next(run)
    workers = run._course._engine._workers.values()  # type: ignore[attr-defined]  # it is of processes
    held = sum(worker.books.open for worker in workers)
    run.close()
    # Of 6 MB each: 64 MiB on this side, 32 MiB and one more on that of each worker, and what two more batches may hold.
    assert held < 40


class ZeroCopy(bytearray):
    """The example of Python's documentation: it takes the object behind the buffer that it is given."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        return type(self)._made, (pickle.PickleBuffer(self),), None

    @classmethod
    def _made(cls, buffer: Any) -> ZeroCopy:
        with memoryview(buffer) as view:
            return view.obj if type(view.obj) is cls else cls(view.obj)


def same(value: Any) -> Any:
    return value


def test_a_buffer_is_an_object_of_its_own() -> None:
    items = [ZeroCopy(bytes([number]) * (200_000 + number)) for number in range(4)]
    assert list(vigie.map(same, items, limit=1)) == items
    assert list(vigie.map(same, [items, items[:2]], limit=1)) == [items, items[:2]]


@pytest.mark.parametrize("short", [0, 1, 20, 32, 33, 60, 100])
def test_what_just_fills_the_journal_is_computed_once(short: int, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def note(size: int, error: bool) -> bytes:
        with open(log, "a") as file:
            file.write("x")
        time.sleep(0.011)  # its peak of memory is looked at: it does not travel with plain ones
        if error:
            raise ValueError("x" * (size // 3))
        return b"x" * size

    sizes = [(1 << 20) - short, (1 << 20) - short - 12]
    found = list(vigie.map(lambda item: note(*item), [(size, error) for size in sizes for error in (False, True)],
                           limit=1, errors="collect"))  # fmt: skip
    assert [one.ok for one in found] == [True, False] * 2
    assert len(log.read_text()) == 4
