"""The agent's side of the protocol with one real worker: a socket server that speaks frames.

Nothing of the worker is replaced: it is ``worker.py`` in a process of its own, with
its page, its journal and its raw output in a home of its own.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import vigie.callables
import vigie.payload
from vigie import frames, outcome, records, workfiles
from vigie.config import Home
from vigie.sockets import bind_unix

WORKER = Path(frames.__file__).with_name("worker.py")
KEY = b"k" * 32
HERE = Path(__file__).parent
#: The longest that anything here may take (s): only a hung worker waits so long.
PATIENCE = 60.0


class Gone(Exception):
    """The worker closed its connection."""


class Result:
    """One outcome, with its blobs in place."""

    def __init__(self, header, blobs):
        self.header = header
        self.seq = header["seq"]
        self.job = header["job"]
        self.how = header["how"]
        self.code = header["code"]
        self.error = header["error"]
        self.result, self.records, self.pickle = (
            None if header[name] is None else blobs[header[name]] for name in ("result", "records", "pickle")
        )

    def value(self, home=None):
        assert self.how == "return", self.error and self.error["traceback"]
        if self.header["encoding"] == "file":
            encoding, data = workfiles.read_result(home.job_file(self.job, "result", self.header["attempt"]))
            return vigie.payload.loads(encoding, data, KEY)
        return vigie.payload.loads(self.header["encoding"], self.result, KEY)


class Harness:
    """A home, a listening socket and one worker."""

    def __init__(self, root, *, python=(sys.executable,), env=None, crash=None, number=7):
        self.home = Home(str(root))
        self.home.create()
        Path(self.home.secret).write_bytes(KEY)
        self.number = number
        self.dir = self.home.worker_dir(number)
        os.makedirs(self.dir, exist_ok=True)
        self.page = workfiles.Page.create(self.dir + "/page")
        self.server = None
        self.conn = None
        self.listen()
        environ = {"PATH": os.environ["PATH"], "VIGIE_ATTEMPT": f"w.{number}"}
        environ.update(env or {})
        if crash:
            environ["VIGIE_CRASH_AT"] = crash
        raw = os.open(self.dir + "/raw", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.process = subprocess.Popen(
            [*python, str(WORKER), self.home.root, str(number)],
            stdin=subprocess.DEVNULL, stdout=raw, stderr=raw, env=environ, start_new_session=True,
        )  # fmt: skip
        os.close(raw)
        self.seq = 0
        self.events = []
        self.dropped = set()
        self.results = {}
        self.tasks = {}
        self.contexts = {}
        self.known = set()

    # --- connection -----------------------------------------------------------

    def listen(self):
        self.server = bind_unix(self.home.socket)
        self.server.settimeout(PATIENCE)

    def accept(self):
        self.conn, _ = self.server.accept()
        self.decoder = frames.Decoder()
        self.inbox = []
        self.known = set()
        hello = self.frame()[0]
        assert hello["role"] == "worker"
        assert hello["vigie"] == 1
        self.send({"vigie": 1, "role": "agent"})
        return hello

    def hang_up(self):
        """Die as an agent does: connection and listener go, the socket's file stays."""
        self.conn.close()
        self.server.close()

    def send(self, header, blobs=()):
        self.conn.sendall(frames.encode(header, blobs))

    def frame(self):
        while not self.inbox:
            if not select.select([self.conn], [], [], PATIENCE)[0]:
                raise AssertionError(f"the worker says nothing; its output: {self.raw()!r}")
            try:
                data = self.conn.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            if not data:
                raise Gone(self.raw().decode("utf-8", "replace"))
            self.inbox += self.decoder.feed(data)
        return self.inbox.pop(0)

    def raw(self):
        return Path(self.dir, "raw").read_bytes()

    # --- work -----------------------------------------------------------------

    def context(self, cwd, *, env=None, umask=0o022, path=()):
        number = len(self.contexts) + 1
        environ = {"PATH": os.environ["PATH"], **(env or {})}
        self.contexts[number] = {
            "op": "context", "context": number, "cwd": str(cwd), "env": environ, "umask": umask,
            "path": [str(p) for p in path],
        }  # fmt: skip
        return number

    def job(self, function, *args, context=None, attempt=1, deps=(), raw_args=None, **kwargs):
        """Prepare one job; ``function`` is a reference or a callable, which is pickled."""
        if callable(function):
            name, code, _ = vigie.callables.dump_function(function, KEY)
            if name:
                return self.job(name, *args, context=context, attempt=attempt, deps=deps, raw_args=raw_args, **kwargs)
            task = self.tasks.setdefault(code, len(self.tasks) + 1)
            told = {"op": "task", "task": task, "function": None, "pickled": True}, [code]
        else:
            task = self.tasks.setdefault(function, len(self.tasks) + 1)
            told = {"op": "task", "task": task, "function": function, "pickled": False}, []
        encoding, data = raw_args or vigie.payload.dump_arguments(args, kwargs, KEY)
        return told, context, {"attempt": attempt, "task": task, "encoding": encoding}, data, deps

    def give(self, *jobs, limit=None):
        """Send jobs as one batch; their numbers are 100 + seq."""
        headers, blobs, extra = [], [], []
        for told, context, header, data, deps in jobs:
            context = context or self.default
            for kind, number in (("task", header["task"]), ("context", context)):
                if (kind, number) not in self.known:
                    self.known.add((kind, number))
                    self.send(*told) if kind == "task" else self.send(self.contexts[number])
            self.seq += 1
            named = []
            for path, encoding, blob in deps:
                if isinstance(blob, bytes):
                    extra.append(blob)
                    blob = len(jobs) + len(extra) - 1
                named.append([path, encoding, blob])
            headers.append({**header, "seq": self.seq, "job": 100 + self.seq, "context": context, "deps": named})
            blobs.append(data)
        self.page.limit = self.seq if limit is None else limit
        self.send({"op": "jobs", "jobs": headers}, blobs + extra)
        return [h["seq"] for h in headers]

    def run(self, function, *args, context=None, **kwargs):
        """Run one job and give its outcome."""
        (seq,) = self.give(self.job(function, *args, context=context, **kwargs))
        return self.result(seq)

    def run_raw(self, args, kwargs):
        """Run ``worker_jobs:echo`` with keywords that a Python call of :meth:`run` would take itself."""
        raw = vigie.payload.dump_arguments(args, kwargs, KEY)
        (seq,) = self.give(self.job("worker_jobs:echo", raw_args=raw))
        return self.result(seq)

    def collect(self):
        """Take one frame: outcomes go to ``results``, others are given."""
        header, blobs = self.frame()
        if header.get("op") != "done":
            self.events.append(header)
            if header.get("op") == "held":
                self.dropped.add(header["seq"])
            return header
        good = [] if "good" not in header else outcome.unpack(*blobs[header["good"] : header["good"] + 2])
        for said in [(said, blobs) for said in header["outcomes"]] + [outcome.said_of(end) for end in good]:
            result = Result(*said)
            assert result.seq not in self.results, "an outcome came twice"
            self.results[result.seq] = result
        return None

    def result(self, seq):
        while seq not in self.results:
            self.collect()
        return self.results[seq]

    def event(self):
        """Wait for something that is no outcome."""
        while True:
            header = self.collect()
            if header is not None:
                return header

    def watch(self, true, what):
        """Take what the worker reports until something is true."""

        def look():
            if self.inbox or select.select([self.conn], [], [], 0)[0]:
                self.collect()
            return true()

        wait_until(look, what)

    def records(self, result):
        """Give a job's records, from the outcome or the file, and assert that it is one of them."""
        path = self.home.job_file(result.job, "records", result.header["attempt"])
        if os.path.exists(path):
            assert result.records is None
            with open(path, "rb") as file:
                return list(records.iter_records(file))
        return list(records.iter_records(result.records or b""))

    def journal(self):
        return [Result(*said) for said in outcome.read(workfiles.read_journal(self.dir + "/journal"))]

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self):
        return self.process.wait(PATIENCE)

    def close(self):
        if self.conn is not None:
            self.conn.close()
        self.server.close()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.page.close()


def wait_until(true, what):
    """Wait for something outside of our reach to become true; fail after a long time."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.001)


def texts(found, stream=None):
    return [r.text for r in found if stream in (None, r.stream)]


@pytest.fixture
def start(tmp_path):
    """Give a function that starts a worker which says hello and knows one context."""
    made = []

    def start(path=(HERE,), **options):
        harness = Harness(tmp_path / "home", **options)
        made.append(harness)
        harness.hello = harness.accept()
        harness.cwd = tmp_path
        harness.default = harness.context(tmp_path, path=path)
        return harness

    yield start
    for harness in made:
        harness.close()


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    """Give one worker for tests that leave it as they found it."""
    root = tmp_path_factory.mktemp("worker")
    harness = Harness(root / "home")
    harness.accept()
    harness.cwd = root
    harness.default = harness.context(root, path=[HERE])
    yield harness
    alive = harness.process.poll() is None
    harness.close()
    assert alive, "a test that shares the worker ended it"
