"""What a disk may hold after a power cut, rebuilt from a trace of system calls.

``perform`` runs a program under strace; ``read`` gives the calls that it and its children
made; :class:`Disk` follows those calls one by one and, at any of them,
gives the files as a disk might hold them if the power went away at that moment:

- what an fsync covered is there;
- of what was written since, each sector of 512 bytes is there or not, in any combination,
  and the length of the file may be the old one, the new one or one between;
- a name that was made, moved or removed is so for sure only once its directory was synced;
- what a failed fsync covered is gone for good, even if a later one succeeds (as Linux does).

Sectors are never torn themselves: SQLite, like every database, builds on that.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from conftest import kill
from vigie import frames

SECTOR = 512
CALLS = (
    "openat open creat write pwrite64 writev pwritev pwritev2 ftruncate fsync fdatasync "
    "rename renameat renameat2 unlink unlinkat link linkat mkdir mkdirat rmdir "
    "sendto recvfrom sendmsg recvmsg"
).split()
_HEX = r"(?:\\x[0-9a-f]{2})*"
_LINE = re.compile(r"^(\d+) +(?:<\.\.\. (\w+) resumed>)?(.*)$", re.DOTALL)
_RESULT = re.compile(rf"\) += (-?\d+|\?)(?:<({_HEX})>)?(?: (E\w+))?")
_FD = re.compile(rf"(\d+|AT_FDCWD)<({_HEX})>")
_OFFSET = re.compile(r", (\d+)\s*(?:\).*)?$", re.DOTALL)


def trace(strace: str, out: Path, argv: Sequence[str], *, inject: str | None = None) -> list[str]:
    """Give the command line that runs ``argv`` and traces it, with all its children, into ``out``."""
    more = [] if inject is None else ["-e", f"inject={inject}"]
    calls = ",".join(f"?{name}" for name in CALLS)
    options = ["-f", "--seccomp-bpf", "-y", "-xx", "-s", str(1 << 26), "-o", str(out), "-e", f"trace={calls}"]
    return [strace, *options, *more, *argv]


def perform(strace: str, out: Path, argv: Sequence[str], home: Any, *, inject: str | None = None) -> str:
    """Run a scene under strace until it says ``done``, kill all of it as a power cut would, and give what it said."""
    command = trace(strace, out, [sys.executable, *argv], inject=inject)
    live = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = ""
    assert live.stdout is not None
    try:
        for line in live.stdout:
            said += line
            if line in ("done\n", "failed\n"):
                break
        assert said.endswith("done\n"), f"the scene ended too soon:\n{said}"
    finally:
        # What it traces goes first: strace itself, killed, would let it go on.
        while alive := [process for process in home.processes() if process.pid != live.pid]:
            for process in alive:
                kill(process)
        live.stdout.close()
        live.wait(30)
    return said


# The trace ----------------------------------------------------------------------


@dataclass
class Call:
    """One system call; ``end`` and ``result`` are None if the process was killed in it."""

    pid: int
    name: str
    text: str
    begin: int
    end: int | None = None
    result: int | None = None
    path: str | None = None  # of the descriptor that it gave

    @cached_property
    def fds(self) -> list[str]:
        """The paths of its descriptors."""
        return [_decode(path).decode("utf-8", "surrogateescape") for _, path in _FD.findall(self.text[:16_384])]

    @cached_property
    def strings(self) -> list[bytes]:
        """Its strings; a shortened one would make the replay a lie."""
        parts = self.text.split('"')
        assert not any(part.startswith("...") for part in parts[2::2]), f"strace shortened a string of {self.name}"
        return [_decode(text) for text in parts[1::2]]


def _decode(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


Tape = list[tuple[str, Call]]


def read(path: Path, root: str) -> Tape:
    """Give ``begin`` and ``end`` of each call of a trace, in the order in which they were seen.

    Files that were opened outside ``root`` are left out.
    """
    return list(_steps(path, "".join(f"\\x{byte:02x}" for byte in os.fsencode(root))))


def _steps(path: Path, root: str) -> Iterator[tuple[str, Call]]:
    open_calls: dict[int, Call] = {}
    with open(path, encoding="ascii", errors="replace") as file:
        for at, line in enumerate(file):
            found = _LINE.match(line)
            if found is None:
                continue
            pid, resumed, rest = int(found[1]), found[2], found[3]
            if resumed:
                call = open_calls.pop(pid, None)
                if call is None:
                    continue
                call.text += rest
            else:
                name, bracket, text = rest.partition("(")
                if not bracket or (name == "openat" and root not in text):
                    continue
                call = Call(pid, name, text, at)
                if "<unfinished ...>" in text[-40:]:
                    call.text = text[: text.rindex("<unfinished ...>")]
                    open_calls[pid] = call
                yield "begin", call
                if pid in open_calls:
                    continue
            results = [*_RESULT.finditer(call.text[-4096:])]
            result = results[-1] if results else None
            call.end = at
            if result is not None and result[1] != "?":
                call.result = int(result[1])
                call.path = None if result[2] is None else _decode(result[2]).decode("utf-8", "surrogateescape")
            yield "end", call


# The disk -----------------------------------------------------------------------


@dataclass(eq=False)
class Write:
    """Bytes on their way to the disk, or a change of length (``data`` None)."""

    at: int
    data: bytes | None
    ended: bool = False


@dataclass(eq=False)
class File:
    """A file: what of it is safe, and what was written since."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[Write] = field(default_factory=list)
    #: Where appending writes go.
    length: int = 0
    generation: int = 0
    _safe: bytes | None = None

    def settle(self, upto: list[Write]) -> None:
        """An fsync that began when ``upto`` had been written came back well."""
        for write in upto:
            _apply(self.durable, write)
        gone = set(map(id, upto))
        self.pending = [write for write in self.pending if id(write) not in gone]
        self.generation += 1
        self._safe = None

    def fail(self, upto: list[Write]) -> None:
        """It came back with an error: the kernel forgets that this was to be written."""
        gone = set(map(id, upto))
        self.pending = [write for write in self.pending if id(write) not in gone]
        self.generation += 1

    def after_cut(self, how: str, chance: random.Random) -> bytes:
        """Give what the disk may hold: ``none``, ``all`` or ``some`` of what is pending."""
        if how == "none" or not self.pending:
            if self._safe is None:
                self._safe = bytes(self.durable)
            return self._safe
        content = bytearray(self.durable)
        if how == "all":
            for write in self.pending:
                _apply(content, write)
            return bytes(content)
        likely = chance.choice((0.1, 0.5, 0.9))
        longest = len(content)
        for write in self.pending:
            if write.data is None:
                longest = max(longest, write.at)
                if chance.random() < likely:
                    _apply(content, write)
                continue
            longest = max(longest, write.at + len(write.data))
            for start, end in _sectors(write.at, len(write.data)):
                if chance.random() < likely:
                    _put(content, start, write.data[start - write.at : end - write.at])
        length = chance.choice((len(content), len(content), longest, len(self.durable), chance.randint(0, longest)))
        # What was synced is there, whatever the length that was not.
        length = max(length, min(len(self.durable), len(content)))
        if length > len(content):
            content.extend(bytes(length - len(content)))
        return bytes(content[:length])


def _sectors(at: int, length: int) -> Iterator[tuple[int, int]]:
    end = at + length
    while at < end:
        nearest = min(end, (at // SECTOR + 1) * SECTOR)
        yield at, nearest
        at = nearest


def _put(content: bytearray, at: int, data: bytes) -> None:
    if at > len(content):
        content.extend(bytes(at - len(content)))
    content[at : at + len(data)] = data


def _apply(content: bytearray, write: Write) -> None:
    if write.data is not None:
        _put(content, write.at, write.data)
    elif write.at < len(content):
        del content[write.at :]
    else:
        content.extend(bytes(write.at - len(content)))


@dataclass(eq=False)
class Name:
    """A change of a directory: ``make`` (a file), ``mkdir``, ``remove``, ``move``, ``link``."""

    kind: str
    path: str
    file: File | None
    source: str = ""
    durable: bool = False

    @property
    def directories(self) -> set[str]:
        """Whose fsync makes it safe."""
        return {os.path.dirname(self.path)}


class Disk:
    """The files under ``root``, call by call.

    Parameters
    ----------
    root:
        The home. What lies above it is as it was before.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.now: dict[str, File] = {}
        self.names: list[Name] = []
        self._open: dict[int, Any] = {}
        self.generation = 0
        #: Fsyncs that failed.
        self.failures = 0

    def ours(self, path: str | None) -> bool:
        """Tell whether a path lies in the home, and is not one that nobody needs after a cut."""
        if path is None or not (path == self.root or path.startswith(self.root + "/")):
            return False
        return not path.endswith("-shm") and os.path.basename(path) not in ("page", "agent.log", "log", "raw")

    # --- calls ----------------------------------------------------------------

    def step(self, kind: str, call: Call) -> str | None:
        """Take one step of the trace; give the path that it changed or synced, if one of ours."""
        handler = getattr(self, f"_{kind}_{_FAMILY.get(call.name, '')}", None)
        return None if handler is None else handler(call)

    def _file(self, path: str) -> File:
        file = self.now.get(path)
        if file is None:
            # It was there before the trace, or is a name that nothing made: it cannot be.
            raise AssertionError(f"{path} was never made")
        return file

    def _begin_write(self, call: Call) -> str | None:
        path = next(iter(call.fds), None)
        if path is None or not self.ours(path) or path not in self.now:
            return None
        file = self._file(path)
        data = b"".join(call.strings)
        # A plain write appends: nobody here writes into the middle of a file by other means than pwrite.
        at = _OFFSET.search(call.text[-64:]) if call.name.startswith("pwrite") else None
        write = Write(file.length if at is None else int(at[1]), data)
        self._open[id(call)] = (file, write)
        file.pending.append(write)
        file.length = max(file.length, write.at + len(data))
        return path

    def _end_write(self, call: Call) -> str | None:
        file, write = self._open.pop(id(call), (None, None))
        if file is None:
            return None
        assert write.data is not None
        if call.result is None or call.result < 0:
            file.pending.remove(write)
            file.length = max([len(file.durable), *(w.at + len(w.data or b"") for w in file.pending)])
        else:
            write.data = write.data[: call.result]
            write.ended = True
        return None

    def _end_truncate(self, call: Call) -> str | None:
        path = next(iter(call.fds), None)
        if path is None or call.result != 0 or not self.ours(path) or path not in self.now:
            return None
        length = int(re.sub(r"\) += .*", "", call.text, flags=re.DOTALL).rpartition(", ")[2])
        self._truncate(self._file(path), length)
        return path

    @staticmethod
    def _truncate(file: File, length: int) -> None:
        file.pending.append(Write(length, None, ended=True))
        file.length = length

    def _begin_sync(self, call: Call) -> str | None:
        path = next(iter(call.fds), None)
        if not self.ours(path) and path != os.path.dirname(self.root):
            return None
        file = self.now.get(path or "")
        names = [name for name in self.names if path in name.directories] if file is None else []
        self._open[id(call)] = (path, file, [w for w in file.pending if w.ended] if file else [], names)
        return None

    def _end_sync(self, call: Call) -> str | None:
        path, file, writes, names = self._open.pop(id(call), (None, None, [], []))
        if path is None:
            return None
        if call.result != 0:
            self.failures += 1
            if file is not None:
                file.fail(writes)
            return str(path)
        if file is not None:
            file.settle(writes)
        for name in names:
            name.durable = True
        self.generation += 1
        return str(path)

    def _end_open(self, call: Call) -> str | None:
        if call.path is None or call.result is None or call.result < 0 or not self.ours(call.path):
            return None
        if "O_DIRECTORY" in call.text or ("O_CREAT" not in call.text and "O_TRUNC" not in call.text):
            return None
        changed = None
        if call.path not in self.now and "O_CREAT" in call.text:
            self.now[call.path] = File()
            self._note("make", call.path)
            changed = call.path
        if "O_TRUNC" in call.text and call.path in self.now and self.now[call.path].length:
            self._truncate(self.now[call.path], 0)
            changed = call.path
        return changed

    def _note(self, kind: str, path: str, source: str = "") -> None:
        self.names.append(Name(kind, path, self.now.get(path), source))
        self.generation += 1

    def _paths(self, call: Call) -> list[str]:
        """Give a call's paths, those relative to a descriptor made whole."""
        directories = call.fds or [""]
        texts = [text.decode("utf-8", "surrogateescape") for text in call.strings]
        wide = directories if len(directories) == len(texts) else directories[:1] * len(texts)
        return [os.path.normpath(os.path.join(base, text)) for base, text in zip(wide, texts, strict=True)]

    def _end_mkdir(self, call: Call) -> str | None:
        (path,) = self._paths(call)
        if call.result != 0 or not self.ours(path):
            return None
        self._note("mkdir", path)
        return path

    def _end_remove(self, call: Call) -> str | None:
        (path,) = self._paths(call)
        if call.result != 0 or not self.ours(path):
            return None
        self._note("remove", path)
        self.now.pop(path, None)
        return path

    def _end_move(self, call: Call) -> str | None:
        source, path = self._paths(call)
        if call.result != 0 or not self.ours(path):
            return None
        if source not in self.now:  # a directory: what is in it goes along
            for below in [name for name in self.now if name.startswith(source + "/")]:
                self.now[path + below[len(source) :]] = self.now.pop(below)
        else:
            self.now[path] = self.now[source] if call.name.startswith("link") else self.now.pop(source)
        self._note("link" if call.name.startswith("link") else "move", path, source)
        return path

    # --- after the cut ----------------------------------------------------------

    def after_cut(self, how: str, chance: random.Random) -> dict[str, bytes]:
        """Give path and content of each file that a disk might hold now."""
        tree: dict[str, File | None] = {}
        for name in self.names:
            if name.durable or how == "all" or (how == "some" and chance.random() < 0.5):
                self._change(tree, name)
        return {path: file.after_cut(how, chance) for path, file in tree.items() if file is not None}

    def _change(self, tree: dict[str, File | None], name: Name) -> None:
        parent = os.path.dirname(name.path)
        if name.path != self.root and parent not in tree:
            return  # its directory is not there
        if name.kind == "mkdir":
            tree.setdefault(name.path, None)
        elif name.kind == "remove":
            if name.file is None or tree.get(name.path) is name.file:
                tree.pop(name.path, None)
        elif name.kind == "make":
            tree[name.path] = name.file
        elif name.kind == "move" and name.file is None:
            for below in [path for path in tree if f"{path}/".startswith(name.source + "/")]:
                tree[name.path + below[len(name.source) :]] = tree.pop(below)
        else:
            tree[name.path] = name.file
            if name.kind == "move" and tree.get(name.source) is name.file:
                del tree[name.source]

    def safe(self) -> tuple[int, ...]:
        """Give what changes whenever more, or other things, are safe on the disk."""
        return (self.generation, *(file.generation for file in self.now.values()))


_FAMILY = {
    **dict.fromkeys(("write", "pwrite64", "writev", "pwritev", "pwritev2"), "write"),
    **dict.fromkeys(("ftruncate",), "truncate"),
    **dict.fromkeys(("fsync", "fdatasync"), "sync"),
    **dict.fromkeys(("openat", "open", "creat"), "open"),
    **dict.fromkeys(("rename", "renameat", "renameat2", "link", "linkat"), "move"),
    **dict.fromkeys(("unlink", "unlinkat", "rmdir"), "remove"),
    **dict.fromkeys(("mkdir", "mkdirat"), "mkdir"),
}


# What was said --------------------------------------------------------------------


class Talk:
    """What the agent acknowledged, from the bytes that it received and sent.

    ``facts`` are what must be true of the disk from now on: keys are ``("job", id)``,
    ``("end", id)``, ``("gone", id)``, ``("queue", name)``. A request that may change one
    withdraws it until its answer.
    """

    def __init__(self) -> None:
        self.facts: dict[tuple[str, Any], Any] = {}
        self.acknowledged = 0
        #: The directories of contexts, and what tasks run, by the names that the agent gave them.
        self.cwd: dict[str, str] = {}
        self.tasks: dict[str, dict[str, Any]] = {}
        self._ends: dict[tuple[int, str], _End] = {}

    def step(self, kind: str, call: Call) -> None:
        """Take one step of the trace."""
        if call.name in ("recvfrom", "recvmsg") and kind == "end" and (call.result or 0) > 0:
            self._end(call).receive(call.strings[0][: call.result])
        elif call.name in ("sendto", "sendmsg", "write", "writev") and kind == "begin":
            # What is on its way may be read before the call comes back.
            path = next(iter(call.fds), "")
            if path.startswith("socket:") or "UNIX" in path:
                self._end(call).send(b"".join(call.strings))

    def _end(self, call: Call) -> _End:
        key = (call.pid, next(iter(call.fds), ""))
        return self._ends.setdefault(key, _End(self))


class _End:
    """One connection as the agent sees it; other processes' ends of sockets stay mute."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self._in, self._out = frames.Decoder(), frames.Decoder()
        self._client = False
        self._dead = False
        self._asked: dict[int, tuple[dict[str, Any], list[bytes]]] = {}

    def receive(self, data: bytes) -> None:
        if self._dead:
            return
        try:
            found = self._in.feed(data)
        except (frames.FrameError, ValueError):
            self._dead = True
            return
        for header, blobs in found:
            self._client = self._client or header.get("role") == "client"
            if self._client and "op" in header:
                self._asked[header["id"]] = header, blobs
                self._withdraw(header)

    def send(self, data: bytes) -> None:
        if self._dead or not self._client:
            return
        for header, blobs in self._out.feed(data):
            asked = self._asked.pop(header.get("re", -1), None)
            if asked is not None and "error" not in header:
                getattr(self, f"_did_{asked[0]['op']}", lambda *_: None)(*asked, header, blobs)

    def _withdraw(self, request: dict[str, Any]) -> None:
        facts = self.talk.facts
        if request["op"] in ("retry", "remove"):
            for job in request["ids"]:
                facts.pop(("end", job), None)
                if request["op"] == "remove":
                    facts.pop(("job", job), None)
        elif request["op"].startswith("queue_"):
            facts.pop(("queue", request["name"]), None)

    def _did_submit(self, request: Any, blobs: list[bytes], answer: Any, _: Any) -> None:
        if answer.get("again"):
            return  # something was named that is not known any more; the whole of it follows
        self.talk.acknowledged += 1
        given = request["context"]
        cwd = self.talk.cwd[given] if isinstance(given, str) else given["cwd"]
        task, args = self._task(request["task"], blobs)
        if "context" in answer:
            self.talk.cwd[answer["context"]] = cwd
            self.talk.tasks[answer["task"]] = task
        if request.get("together"):
            # Arrays of many jobs' arguments, each of which the store has on its own.
            every = [one for array in args for one in json.loads(array)]
            args = [json.dumps(one, separators=(",", ":"), ensure_ascii=False).encode() for one in every]
        stdin = request.get("job", {}).get("stdin")
        for at, job in enumerate(answer["ids"]):
            own = args[at] if at < len(args) else None
            self.talk.facts["job", job] = {**task, "cwd": cwd, "args": own, "stdin": stdin}

    def _task(self, given: dict[str, Any] | str, blobs: list[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        """Give what a task runs, and the blobs that are not its code."""
        if isinstance(given, str):
            return self.talk.tasks[given], blobs
        code, args = (blobs[0], blobs[1:]) if given.get("code") else (None, blobs)
        return {"argv": given.get("argv"), "function": given.get("function"), "code": code}, args

    def _did_wait(self, request: Any, _: Any, answer: Any, blobs: list[bytes]) -> None:
        if not answer["done"]:
            return
        self.talk.acknowledged += 1
        for job, state in answer["states"].items():
            if int(job) not in answer["pending"]:
                self.talk.facts["end", int(job)] = {"state": state}
        if "outcome" in answer:
            said = answer["outcome"]
            end = {"state": said["state"], "exit_code": said["exit_code"], "encoding": said["encoding"]}
            end["result"] = blobs[said["blob"]] if "blob" in said else None
            self.talk.facts["end", request["ids"][0]] = end

    def _did_remove(self, request: Any, _: Any, answer: Any, __: Any) -> None:
        self.talk.acknowledged += 1
        for job in answer["removed"]:
            self.talk.facts["gone", job] = {}

    def _did_queue_pause(self, request: Any, _: Any, answer: Any, __: Any) -> None:
        self.talk.acknowledged += 1
        self.talk.facts["queue", request["name"]] = {"paused": 1}

    def _did_queue_resume(self, request: Any, _: Any, answer: Any, __: Any) -> None:
        self.talk.acknowledged += 1
        self.talk.facts["queue", request["name"]] = {"paused": 0}
