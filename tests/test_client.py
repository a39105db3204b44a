"""The client against a real socket whose other end the test holds."""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import until
from holding import held
from vigie import frames, locks
from vigie.client import Client
from vigie.config import Home
from vigie.errors import AgentUnreachable, NotFound
from vigie.launch import agent_environment, launch
from vigie.sockets import bind_unix

Answer = Callable[..., None]


class Peer:
    """The other end: accepts, greets, and hands every request to ``handle``."""

    hello: dict[str, Any] = {"vigie": 1, "role": "agent", "version": "0.1.0", "pid": 1}

    def __init__(self, path: str, handle: Callable[[Peer, dict[str, Any], list[bytes], Answer], None]) -> None:
        self.path = path
        self.handle = handle
        self.greetings: list[dict[str, Any]] = []
        self.seen: queue.Queue[dict[str, Any]] = queue.Queue()
        self.connections: list[socket.socket] = []
        self.threads: list[threading.Thread] = []
        self.listen()

    def listen(self) -> None:
        self.server = bind_unix(self.path)
        self._go(self._accept, self.server)

    def _go(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args)
        self.threads.append(thread)
        thread.start()

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            self.connections.append(connection)
            self._go(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        decoder = frames.Decoder()
        greeted = False
        lock = threading.Lock()

        def answer(request: dict[str, Any], blobs: list[bytes] | tuple[()] = (), **fields: Any) -> None:
            with lock:
                connection.sendall(frames.encode({"re": request["id"], **fields}, blobs))

        try:
            while data := connection.recv(65536):
                for header, blobs in decoder.feed(data):
                    if not greeted:
                        greeted = True
                        self.greetings.append(header)
                        connection.sendall(frames.encode(self.hello))
                        continue
                    self.seen.put(header)
                    self.handle(self, header, blobs, answer)
        except OSError:
            pass
        finally:
            connection.close()

    def cut(self) -> None:
        """Break every connection, as a kill does."""
        while self.connections:
            try:
                self.connections.pop().shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def stop(self, *, unlink: bool = False) -> None:
        """Listen no more, and break every connection."""
        try:
            self.server.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.server.close()
        if unlink:
            os.unlink(self.path)
        self.cut()

    def end(self) -> None:
        self.stop()
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive()


def echo(peer: Peer, request: dict[str, Any], blobs: list[bytes], answer: Answer) -> None:
    answer(request, blobs, op=request["op"], value=request.get("value"))


@pytest.fixture
def peer(home: Home) -> Iterator[Callable[..., Peer]]:
    made: list[Peer] = []

    def make(handle: Callable[..., None] = echo) -> Peer:
        home.create()
        made.append(Peer(home.socket, handle))
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.fixture
def client(home: Home) -> Iterator[Client]:
    made = Client(home, program="test", autostart=False)
    yield made
    made.close()


def test_a_call_greets_and_gives_the_answer(peer: Callable[..., Peer], client: Client) -> None:
    server = peer()
    answer, blobs = client.call_with_blobs("submit", [b"ab", b""], value=7)
    assert (answer, blobs) == ({"op": "submit", "value": 7}, [b"ab", b""])
    greeting = server.greetings[0]
    assert (greeting["vigie"], greeting["role"], greeting["program"]) == (1, "client", "test")
    assert client.connect()["pid"] == 1


def test_writes_carry_a_request_id_and_reads_do_not(peer: Callable[..., Peer], client: Client) -> None:
    server = peer()
    client.call("submit")
    client.call("stop", ids=[1])
    client.call("status")
    first, second, third = (server.seen.get(timeout=10) for _ in range(3))
    assert len(first["rid"]) == 32 == len(second["rid"])
    assert first["rid"] != second["rid"]
    assert "rid" not in third


def test_an_error_in_the_answer_is_raised(peer: Callable[..., Peer], client: Client) -> None:
    def refuse(peer: Peer, request: dict[str, Any], blobs: list[bytes], answer: Answer) -> None:
        answer(request, error={"kind": "not_found", "message": "no job 9", "hint": "vigie jobs"})

    peer(refuse)
    with pytest.raises(NotFound, match="no job 9") as caught:
        client.call("stop", ids=[9])
    assert caught.value.hint == "vigie jobs"


@pytest.mark.parametrize("times", [1, 3])
def test_a_write_is_repeated_with_its_id_until_it_is_answered(
    peer: Callable[..., Peer], client: Client, times: int
) -> None:
    def drop(peer: Peer, request: dict[str, Any], blobs: list[bytes], answer: Answer) -> None:
        nonlocal times
        if times:
            times -= 1
            peer.cut()
        else:
            answer(request, ids=[4])

    dropped = times
    server = peer(drop)
    assert client.call("submit", count=1) == {"ids": [4]}
    rids = {server.seen.get(timeout=10)["rid"] for _ in range(dropped + 1)}
    assert len(rids) == 1


def test_a_wait_goes_on_over_a_new_connection_for_the_rest_of_its_time(
    peer: Callable[..., Peer], client: Client
) -> None:
    def drop_once(peer: Peer, request: dict[str, Any], blobs: list[bytes], answer: Answer) -> None:
        if len(peer.greetings) == 1:
            peer.cut()
        else:
            answer(request, done=True, states={"3": "completed"}, pending=[])

    server = peer(drop_once)
    answer, _ = client.wait([3], timeout=60_000_000)
    assert answer["states"] == {"3": "completed"}
    first, second = server.seen.get(timeout=10), server.seen.get(timeout=10)
    assert first["timeout"] > second["timeout"] > 0


def test_a_thousand_threads_wait_over_one_socket_and_none_blocks_another(
    peer: Callable[..., Peer], client: Client
) -> None:
    count = 1000
    open_waits: list[tuple[dict[str, Any], Answer]] = []
    all_here = threading.Event()

    def hold(peer: Peer, request: dict[str, Any], blobs: list[bytes], answer: Answer) -> None:
        if request["op"] != "wait":
            answer(request, op="status")
            return
        open_waits.append((request, answer))
        if len(open_waits) == count:
            all_here.set()

    server = peer(hold)
    found: dict[int, dict[str, Any]] = {}

    def wait(job: int) -> None:
        found[job] = client.wait([job])[0]

    threads = [threading.Thread(target=wait, args=(job,)) for job in range(count)]
    for thread in threads:
        thread.start()
    assert all_here.wait(60)
    assert client.call("status") == {"op": "status"}
    # Last first, so that whoever reads is never the one who is answered.
    for request, answer in reversed(open_waits):
        answer(request, states=request["ids"])
    for thread in threads:
        thread.join(60)
    assert {job: answer["states"] for job, answer in found.items()} == {job: [job] for job in range(count)}
    assert len(server.greetings) == 1


def test_threads_that_wait_when_the_connection_breaks_all_go_on(peer: Callable[..., Peer], client: Client) -> None:
    arrived: list[int] = []
    all_here = threading.Event()

    def hold(peer: Peer, request: dict[str, Any], blobs: list[bytes], answer: Answer) -> None:
        if len(peer.greetings) > 1:
            answer(request, states=request["ids"])
            return
        arrived.append(request["id"])
        if len(arrived) == 20:
            all_here.set()

    server = peer(hold)
    found: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda job=job: found.update({job: client.wait([job])[0]["states"]}))
        for job in range(20)
    ]
    for thread in threads:
        thread.start()
    assert all_here.wait(60)
    server.cut()
    for thread in threads:
        thread.join(60)
    assert found == {job: [job] for job in range(20)}


def test_an_interrupted_reader_hands_over(peer: Callable[..., Peer], client: Client) -> None:
    def answer_second(peer: Peer, request: dict[str, Any], blobs: list[bytes], answer: Answer) -> None:
        if request["ids"] == [1]:
            return
        if hasattr(peer, "pending"):
            # The interrupt fell where the connection could not be kept: asked again on a new one.
            answer(request, states={"2": "completed"})
            return
        # The main thread reads for both; with it interrupted, the other must.
        peer.pending = (request, answer)  # type: ignore[attr-defined]
        os.kill(os.getpid(), signal.SIGUSR1)

    class Interrupt(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupt

    server = peer(answer_second)
    client.connect()
    found: list[Any] = []
    other = threading.Thread(target=lambda: found.append(client.wait([2])[0]))
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(Interrupt):
            other.start()
            client.wait([1])
    finally:
        signal.signal(signal.SIGUSR1, before)
    request, answer = server.pending  # type: ignore[attr-defined]
    with contextlib.suppress(OSError):
        answer(request, states={"2": "completed"})
    other.join(30)
    assert found == [{"states": {"2": "completed"}}]


def test_a_forked_child_makes_a_connection_of_its_own(peer: Callable[..., Peer], home: Home) -> None:
    server = peer()
    code = """
import os, sys
from vigie.client import Client
from vigie.config import Home
client = Client(Home(sys.argv[1]), autostart=False)
assert client.call("status", value=1)["value"] == 1
pid = os.fork()
if pid == 0:
    assert client.call("status", value=2)["value"] == 2
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert client.call("status", value=3)["value"] == 3
"""
    subprocess.run([sys.executable, "-c", code, home.root], check=True, timeout=60)
    assert len(server.greetings) == 2


def test_large_requests_and_answers(peer: Callable[..., Peer], client: Client) -> None:
    peer()
    blob = os.urandom(3 << 20)
    assert client.call_with_blobs("submit", [blob, blob])[1] == [blob, blob]


def test_a_home_with_a_path_of_200_characters(home: Home) -> None:
    deep = Home(os.path.join(home.root, "d" * 100, "e" * 100))
    deep.create()
    server = Peer(deep.socket, echo)
    client = Client(deep, autostart=False)
    try:
        assert client.call("status", value=5)["value"] == 5
    finally:
        client.close()
        server.end()


def test_no_agent_and_no_leave_to_start_one(client: Client) -> None:
    with pytest.raises(AgentUnreachable, match="does not run") as caught:
        client.call("submit")
    assert caught.value.code == 4
    with pytest.raises(AgentUnreachable):
        client.wait([1])
    assert client.shutdown() is False


def test_shutdown_takes_the_end_of_the_connection_for_an_answer(peer: Callable[..., Peer], client: Client) -> None:
    peer(lambda peer, request, blobs, answer: peer.cut())
    assert client.shutdown() is True


def test_an_agent_of_an_older_protocol_is_named_with_the_way_out(
    peer: Callable[..., Peer], client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Peer, "hello", {"vigie": 0, "role": "agent", "version": "0.0.9"})
    peer()
    with pytest.raises(AgentUnreachable, match=r"Vigie 0\.0\.9, too old") as caught:
        client.call("status")
    assert caught.value.hint == "vigie agent restart"
    # And yet it can be told to go.
    assert client.shutdown() is True


def test_what_is_no_agent_at_all(home: Home, client: Client) -> None:
    home.create()
    server = bind_unix(home.socket)

    def talk() -> None:
        connection, _ = server.accept()
        connection.sendall(b"\xff" * 64)
        connection.recv(4096)
        connection.close()

    thread = threading.Thread(target=talk)
    thread.start()
    with pytest.raises(AgentUnreachable, match="is not an agent's"):
        client.call("status")
    thread.join(10)
    server.close()


def test_somebody_elses_socket_is_refused(
    peer: Callable[..., Peer], client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer()
    real = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: real + 1)
    with pytest.raises(AgentUnreachable, match=f"is held by user {real}, and you are user {real + 1}"):
        client.call("status")


def test_a_home_that_cannot_be_made(home: Home) -> None:
    os.makedirs(os.path.dirname(home.root), exist_ok=True)
    with open(home.root, "w"):
        pass
    with pytest.raises(AgentUnreachable, match=f"cannot use {home.root}"):
        Client(home).call("status")


def test_the_agents_environment_is_small(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/c")
    monkeypatch.setenv("VIGIE_CRASH_AT", "nowhere")
    env = agent_environment(home)
    assert "AWS_SECRET_ACCESS_KEY" not in env
    assert env["VIGIE_HOME"] == home.root
    assert (env["XDG_CONFIG_HOME"], env["VIGIE_CRASH_AT"]) == ("/c", "nowhere")


def test_who_holds_the_lock_is_seen_without_taking_it(home: Home) -> None:
    home.create()
    assert locks.holder(home.lock) is None
    with held(home.lock) as pid:
        assert locks.holder(home.lock) == pid
    assert locks.holder(home.lock) is None


def test_who_holds_the_lock_is_seen_while_others_take_and_release_theirs(home: Home, tmp_path: Path) -> None:
    """The kernel then leaves lines out of /proc/locks: one look in twenty missed the agent."""
    home.create()
    code = """
import fcntl, sys
f = open(sys.argv[1], "w")
print(flush=True)
while True:
    for at in range(20):
        fcntl.lockf(f, fcntl.LOCK_EX, 1, 3 * at)
    fcntl.lockf(f, fcntl.LOCK_UN)
"""
    with contextlib.ExitStack() as stack:
        for i in range(120):
            file = stack.enter_context(open(tmp_path / f"held-{i}", "w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        pid = stack.enter_context(held(home.lock))
        for i in range(2):
            words = [sys.executable, "-c", code, str(tmp_path / f"busy-{i}")]
            busy = stack.enter_context(subprocess.Popen(words, stdout=subprocess.PIPE))
            stack.callback(busy.kill)
            assert busy.stdout is not None
            busy.stdout.readline()
        assert {locks.holder(home.lock) for _ in range(300)} == {pid}


@pytest.mark.slow
def test_an_agent_that_gave_way_to_one_that_died_is_started_again(home: Home) -> None:
    """The first one finds the lock taken; who took it goes as soon as that is logged."""
    home.create()
    found: list[socket.socket] = []
    starter = threading.Thread(target=lambda: found.append(launch(home)))
    with held(home.lock):
        starter.start()
        until(lambda: os.path.exists(home.agent_log) and "serves" in Path(home.agent_log).read_text())
    starter.join()
    found[0].close()
