"""A real agent that lives through the days on which clocks are set, its clock told by libfaketime."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import apsw
import pytest

from conftest import need, until
from vigie import zones
from vigie.agenda import in_zone

Program = Any

pytestmark = pytest.mark.slow


class Watch:
    """An agent whose wall clock goes on from other moments than ours; all others keep ours."""

    def __init__(self, home: Any, path: Path) -> None:
        lib = Path(need("faketime")).parent.parent / "lib"
        preload = next(path for end in ("", "*/") for path in lib.glob(f"{end}faketime/libfaketime.so.1"))
        self.home = home
        self._clock = path / "clock"
        self._env = {
            "LD_PRELOAD": str(preload), "FAKETIME_TIMESTAMP_FILE": str(self._clock), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }  # fmt: skip
        self.agent: Any = None

    def set(self, moment: str) -> None:
        """Set the agent's clock (UTC)."""
        offset = int(datetime.fromisoformat(f"{moment}+00:00").timestamp() - time.time())
        self._clock.with_suffix(".new").write_text(f"{offset:+d}\n")
        os.replace(self._clock.with_suffix(".new"), self._clock)

    def start(self) -> None:
        self.home.create()
        with open(self.home.agent_log, "ab") as log:
            words = [sys.executable, "-m", "vigie.agent", self.home.root]
            self.agent = subprocess.Popen(words, stderr=log, env={**os.environ, **self._env})
        self.home.started.append(self.agent)
        until(lambda: os.path.exists(self.home.socket))

    def end(self) -> None:
        if self.agent is not None:
            self.agent.kill()
            self.agent.wait(30)
            for name in (f"faketime_shm_{self.agent.pid}", f"sem.faketime_sem_{self.agent.pid}"):
                Path("/dev/shm", name).unlink(missing_ok=True)

    def ran(self, name: str) -> dict[str | None, str]:
        """Give the instants at which a schedule ran, in Paris, and how."""
        db = apsw.Connection(self.home.db, flags=apsw.SQLITE_OPEN_READONLY)
        whose = "SELECT id FROM schedules WHERE name = ?"
        query = f"SELECT instant, outcome FROM firings WHERE job > 0 AND schedule IN ({whose})"
        rows = db.execute(query, (name,)).fetchall()
        db.close()
        return {in_zone(instant, zones.load("Europe/Paris")): outcome for instant, outcome in rows}


@pytest.fixture
def watch(home: Any, tmp_path: Path) -> Iterator[Watch]:
    made = Watch(home, tmp_path)
    yield made
    made.end()


def begin(vigie: Program, watch: Watch, moment: str) -> None:
    watch.set(moment)
    watch.start()
    for name, when in (("point", "daily 02:30"), ("wild", "*/30 * * * *")):
        words = ("--timezone", "Europe/Paris", "--overlap", "parallel", "--", "true")
        vigie("schedule", "add", name, when, *words, check=True)


def test_over_a_gap_a_point_in_time_comes_once_where_it_ends(vigie: Program, watch: Watch) -> None:
    begin(vigie, watch, "2026-03-29 00:59:57")
    until(lambda: watch.ran("point") and watch.ran("wild"), timeout=20)
    assert watch.ran("point") == watch.ran("wild") == {"2026-03-29T03:00:00+02:00": "ran"}


def test_in_an_hour_that_comes_twice_a_point_in_time_comes_once(vigie: Program, watch: Watch) -> None:
    begin(vigie, watch, "2026-10-25 00:29:57")
    until(lambda: watch.ran("point") and watch.ran("wild"), timeout=20)
    watch.set("2026-10-25 01:29:57")
    until(lambda: "2026-10-25T02:30:00+01:00" in watch.ran("wild"), timeout=40)
    assert watch.ran("point") == {"2026-10-25T02:30:00+02:00": "ran"}
    assert watch.ran("wild")["2026-10-25T02:30:00+02:00"] == "ran"
