"""The duty of listening to what jobs write, for schedules that wait for a record.

Looked at every second, and only while some schedule waits for one: the output of the
jobs that are meant, from where the last look ended. Several matching records of one
look set a schedule off once. Where it has come to is kept with the firing, in the same
commit, so that a record sets a schedule off once whatever dies in between.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from vigie.config import Home
from vigie.errors import VigieError
from vigie.output import Cutter, Output, Record
from vigie.store.reader import Reader
from vigie.store.schedules import ScheduleRow
from vigie.triggers.occasions import OnRecord

if TYPE_CHECKING:
    from vigie.agent.happenings import Happenings
    from vigie.triggers.occasions import Occasion

__all__ = ["Listener"]

#: Streams that are listened to: what a job says, not what it returns.
HEARD = ("output", "error", "warning", "info", "debug", "log")
#: So long (µs) before its end an agent may have looked last.
MOMENT = 30_000_000
#: Of each job about so many bytes are read in a look.
MUCH = 4 << 20


class _Job(NamedTuple):
    id: int
    name: str | None
    schedule: str | None
    tags: Sequence[str]
    started: int


class _Ear:
    """Reads one job for one schedule, from look to look."""

    def __init__(self, reader: Reader, home: Home, job: _Job, position: dict[str, int] | None, since: int) -> None:
        self._output = Output(reader, home, job.id, position=position, streams=HEARD)
        self._cutter = Cutter(job.id, home.secret)
        self._job = job
        #: All was read, and no more comes.
        self.done = False
        if position is None and job.started < since:
            # What it wrote before the schedule was there concerns nobody.
            self._output.since(since)

    def close(self) -> None:
        self._output.close()

    @property
    def position(self) -> dict[str, int]:
        return self._output.position

    def listen(self, wanted: Sequence[OnRecord]) -> OnRecord | None:
        """Read what has come; give one of those that a record of it matches."""
        self._output.refresh()
        heard, left = None, MUCH
        for piece in self._output.pump():
            heard = self._first(wanted, self._cutter.feed(piece)) or heard
            left -= len(piece.data)
            if left < 0:
                return heard
        self.done = self._output.ended
        # A line without an end is one when the job has ended.
        return heard or (self._first(wanted, self._cutter.rest()) if self.done else None)

    def _first(self, wanted: Sequence[OnRecord], records: Iterable[Record]) -> OnRecord | None:
        heard: OnRecord | None = None
        for record in records:
            heard = heard or next((each for each in wanted if self._matches(each, record)), None)
        return heard

    def _matches(self, wanted: OnRecord, record: Record) -> bool:
        # A value has no text, and is not looked into: it may be a pickle.
        job = self._job
        return wanted.matches(job.name, record.stream, record.level, record.text or "", job.tags, job.schedule)


class Listener:
    """Reads what jobs write.

    Parameters
    ----------
    happenings:
        What plans a firing.
    home:
        Where the output is.
    """

    def __init__(self, happenings: Happenings, home: Home) -> None:
        self.happenings = happenings
        self._home = home
        self._reader = Reader(home)
        self._ended: list[int] = []
        self._ears: dict[tuple[int, int], _Ear] = {}

    def begin(self) -> None:
        """Look once more at what ended while the agent before had no time to."""
        self._ended += [job for (job,) in self.happenings.duty.store.run("ended_last", (MOMENT,))]

    def job_ended(self, job: int) -> None:
        """Look once more at what a job wrote that is over."""
        self._ended.append(job)

    def close(self) -> None:
        """Let go of all files."""
        for ear in self._ears.values():
            ear.close()
        self._ears.clear()
        self._reader.close()

    def look(self, waiting: Sequence[tuple[ScheduleRow, tuple[Occasion, ...]]]) -> None:
        """Read what has been written since the last look."""
        ended, self._ended = self._ended, []
        jobs = self._jobs(ended)
        for row, occasions in waiting:
            for job in jobs:
                wanted = [
                    each for each in occasions
                    if isinstance(each, OnRecord) and each.concerns(job.name, job.tags, job.schedule)
                ]  # fmt: skip
                if wanted and job.schedule != row.name:
                    self._listen(row, wanted, job)
        alive = {job.id for job in jobs}
        for key in [key for key, ear in self._ears.items() if ear.done or key[1] not in alive]:
            self._ears.pop(key).close()
        self._ended += {key[1] for key in self._ears if key[1] in ended}

    def _jobs(self, ended: Sequence[int]) -> list[_Job]:
        rows = self.happenings.duty.store.run("writing", (json.dumps(ended),))
        return [
            _Job(job, name, schedule, tags.split("\n"), started or 0) for job, name, schedule, tags, started in rows
        ]

    def _listen(self, row: ScheduleRow, wanted: Sequence[OnRecord], job: _Job) -> None:
        """Read one job for one schedule."""
        ear = self._ears.get((row.id, job.id))
        try:
            if ear is None:
                ear = _Ear(self._reader, self._home, job, self._kept(row, job.id), row.changed)
                self._ears[row.id, job.id] = ear
            heard = ear.listen(wanted)
        except VigieError:
            return  # it was removed meanwhile
        if heard is not None:
            self.happenings.duty.writer.post(self._take, row, heard, job.id, ear.position)

    def _kept(self, row: ScheduleRow, job: int) -> dict[str, int] | None:
        found = self.happenings.duty.core.store.one("cursor", (job, _reader_of(row)))
        return None if found is None else json.loads(found[0])

    def _take(self, row: ScheduleRow, heard: OnRecord, job: int, position: dict[str, int]) -> None:
        """Plan a firing, and keep where the listening has come to."""
        core = self.happenings.duty.core
        current = self.happenings.duty.store.numbered(row.id)
        if current is None or current.state != "active" or core.store.state_of(job) is None:
            return
        core.store.run("set_cursor", (job, _reader_of(row), json.dumps(position), core.clock.wall()))
        self.happenings.happened(current, f"record:{job}", heard)


def _reader_of(row: ScheduleRow) -> str:
    return f"schedule:{row.id}"
