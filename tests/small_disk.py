"""What happens on a full disk, played on a small one: ``unshare --mount python small_disk.py SCENE DIRECTORY``.

The home is a tmpfs that only this process and those that it starts can see. Each scene
asserts what it wants to see; a traceback and an exit code that is not 0 say what was
otherwise.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import pytest

import vigie
import work
from conftest import HomeUnderTest, kill, until
from vigie import locks, workfiles
from vigie.client import Client
from vigie.session import session

SIZE = "8m"


class Place:
    """The small disk, and a directory beside it that has room."""

    def __init__(self, home: HomeUnderTest, room: Path) -> None:
        self.home = home
        self.room = room
        self._ballast = Path(home.root, "ballast")

    def fill(self) -> None:
        """Leave not one block."""
        ballast = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for size in (1 << 20, 1 << 16, 4096):
            with contextlib.suppress(OSError):
                while os.write(ballast, bytes(size)):
                    pass
        os.close(ballast)

    def empty(self) -> None:
        """Give the room back."""
        self._ballast.unlink()

    def waiting(self, code: int) -> vigie.Job:
        """Start a command that ends when it may."""
        line = f"touch {self.room}/begun; while [ ! -e {self.room}/end ]; do sleep 0.02; done; exit {code}"
        job = vigie.start(["/bin/sh", "-c", line])
        until((self.room / "begun").exists)
        until(lambda: job.info()["pid"] is not None)
        return job


def no_room(place: Place) -> str:
    """Give what a refused submit says."""
    with pytest.raises(vigie.VigieError) as caught:
        vigie.start(["true"])
    return str(caught.value)


def goes_on(place: Place) -> None:
    """A submit is refused, what runs goes on, and the same agent serves again when there is room."""
    command = place.waiting(7)
    function = vigie.start(work.begin_then_wait, str(place.room / "begun2"), str(place.room / "end"))
    until((place.room / "begun2").exists)
    agent = locks.holder(place.home.lock)
    place.fill()
    said = no_room(place)
    assert "no space" in said, said
    assert place.home.root in said, said
    (place.room / "end").touch()
    until(lambda: not place.home.processes("other"), what="the command's end")
    # Lists need no room.
    assert subprocess.run([sys.executable, "-m", "vigie", "jobs"], stdout=subprocess.DEVNULL).returncode == 0
    assert "no space" in no_room(place)
    place.empty()
    assert command.wait(30).exit_code == 7
    assert function.result(30) == "ended"
    assert vigie.start(["true"]).result(30) == 0
    assert locks.holder(place.home.lock) == agent


def starts_again(place: Place) -> None:
    """An agent that is killed on a full disk costs no exit code; the next one says why it cannot serve."""
    command = place.waiting(7)
    place.fill()
    for process in place.home.processes("agent"):
        kill(process)
    (place.room / "end").touch()
    until(lambda: not place.home.processes("other"), what="the command's end")
    said = no_room(place)
    assert "no space" in said, said
    place.empty()
    assert command.wait(30).exit_code == 7
    assert vigie.start(work.double, 2).result(30) == 4


def begins_without_room(place: Place) -> None:
    """Not even an empty store can be made."""
    place.fill()
    said = no_room(place)
    assert "no space" in said, said
    place.empty()
    assert vigie.start(["true"]).result(30) == 0


def workers_without_room(place: Place) -> None:
    """A worker whose files have no room is no reason to die, for it or for the agent."""
    Client(session().home).call("status")
    client = session().client
    client.call("queue_pause", name="default")
    job = vigie.start(work.double, 21)
    agent = locks.holder(place.home.lock)
    place.fill()
    with pytest.raises(vigie.VigieError, match="no space"):
        client.call("queue_resume", name="default")
    place.empty()
    client.call("queue_resume", name="default")
    assert job.result(30) == 42
    assert locks.holder(place.home.lock) == agent


def pages_without_room(place: Place) -> None:
    """A page without blocks would kill its worker when it is written to: it is not made."""
    place.fill()
    path = Path(place.home.root, "page")
    path.write_bytes(b"")
    with pytest.raises(OSError):
        workfiles.Page.create(str(path))
    os.truncate(place.home.root + "/ballast", 1 << 20)
    page = workfiles.Page.create(str(path))
    assert os.stat(path).st_blocks * 512 >= 8192
    page.close()


def main() -> None:
    scene, top = sys.argv[1:]
    home = HomeUnderTest(top)
    os.mkdir(home.root)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "small", home.root], check=True)
    os.environ["VIGIE_HOME"] = home.root
    home.leftovers_expected = True
    room = Path(top, "room")
    room.mkdir()
    try:
        globals()[scene](Place(home, room))
        if os.path.exists(home.agent_log):
            assert "Traceback" not in Path(home.agent_log).read_text(), Path(home.agent_log).read_text()
    finally:
        if sys.exc_info()[0] is not None and os.path.exists(home.agent_log):
            print(Path(home.agent_log).read_text()[-4000:], file=sys.stderr)
        home.end()


if __name__ == "__main__":
    main()
