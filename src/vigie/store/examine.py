"""Looking for damage before the agent uses a store, so that it neither invents nor forgets.

What a look can find is a matter of time: SQLite's pages carry no checksums. A store that
was closed in order is compared bit by bit with its *seal*; any other is read as far as
``PATIENCE`` goes: its structure, its links, what its digests cover, the log's end.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import time
import zlib
from collections.abc import Iterator

import apsw

from vigie.config import Home
from vigie.errors import StoreError, VigieError
from vigie.store import restore
from vigie.store.rows import digest
from vigie.store.schema import SCHEMA, text
from vigie.store.trouble import explain
from vigie.store.wal import began_anew, commits_from, promised

__all__ = ["examine", "seal", "unseal"]

#: Seconds for reading a store that has no seal.
PATIENCE = 0.3
#: A larger store (bytes) is not sealed: reading it would hold up the start.
SEALED = 256 << 20
_CHUNK = 1 << 20
_STEPS = 50_000


class _Damaged(Exception):
    """What is wrong."""


def examine(home: Home) -> None:
    """See that the store of a home is whole, as far as that can be seen soon.

    For who holds the agent's lock, before the store is opened. Neither the store nor its
    log is changed.

    Raises
    ------
    StoreError
        When it is damaged, empty or missing though there was one, or cannot be read;
        it says which backup can be brought back.
    """
    try:
        if _size(home.db) == 0:
            _never_was(home)
            return
        if not _as_left(home.db) and not _read(home.db):
            _never_was(home)
    except _Damaged as damage:
        raise StoreError(f"the store {home.db} {damage}; it was left as it is", _advice(home)) from None
    except apsw.Error as error:
        raise explain(home.db, error, f"cannot read the store {home.db}") from None


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _never_was(home: Home) -> None:
    """See that nothing tells of a store where there is none: an empty one in its place would forget all."""
    tells = {
        # One may be that which made it, torn by a power cut.
        "its log": commits_from(home.db, 0) > 1,
        # Its first line names the boot; a keeper that was there first has written no other.
        "the keeper's journal": _lines(home.keeper_journal) > 1,
        "files of jobs": bool(glob.glob(os.path.join(glob.escape(home.jobs), "*", "*"))),
        "backups": bool(_backups(home)),
    }
    found = [name for name, seen in tells.items() if seen]
    if found:
        raise _Damaged(f"is {'empty' if os.path.exists(home.db) else 'gone'}, and there are {', '.join(found)}")


def _lines(path: str) -> int:
    try:
        with open(path, "rb") as file:
            return sum(1 for _ in file)
    except OSError:
        return 0


# --- the seal -------------------------------------------------------------------


def seal(path: str) -> None:
    """Note what the file of a store that was closed in order holds, to know it again.

    Parameters
    ----------
    path:
        The store; without a log beside it, or nothing is noted.
    """
    with contextlib.suppress(OSError):
        if os.path.exists(path + "-wal") or os.stat(path).st_size > SEALED:
            return
        with open(path + ".seal", "w", encoding="ascii") as file:
            json.dump({**_marks(path), "crc": _checksum(path)}, file)


def _marks(path: str) -> dict[str, int]:
    """Give what changes when anybody writes the file, and not when its medium fails."""
    info = os.stat(path)
    return {"inode": info.st_ino, "written": info.st_mtime_ns}


def _checksum(path: str) -> int:
    crc = 0
    with open(path, "rb") as file:
        while data := file.read(_CHUNK):
            crc = zlib.crc32(data, crc)
    return crc


def _as_left(path: str) -> bool:
    """Compare a store with its seal; False if it has none, or somebody has written since."""
    try:
        with open(path + ".seal", encoding="ascii") as file:
            sealed = json.load(file)
        crc = sealed.pop("crc")
        if sealed != _marks(path):
            os.unlink(path + ".seal")
            return False
    except (OSError, ValueError, AttributeError, KeyError):
        return False
    if _checksum(path) != crc:
        raise _Damaged("is damaged: it is not as it was left, and nobody wrote to it")
    return not os.path.exists(path + "-wal")


def unseal(path: str) -> None:
    """Forget the seal, and a verdict on another log: the store is going to be written."""
    for name in (path + ".seal", path + ".damaged"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


# --- a look inside ----------------------------------------------------------------


def _read(path: str) -> bool:
    """Look as long as there is time; False if there is nothing in it."""
    _remember(path)
    had, anew = promised(path), began_anew(path)
    db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        # Closing would copy the log into a file that may be damaged, and delete it.
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        db.set_busy_timeout(10_000)
        end = time.monotonic() + PATIENCE
        db.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
        try:
            if not db.execute("SELECT 1 FROM sqlite_schema").fetchone():
                return False
            _whole(db, path, had, end, anew=anew)
        except apsw.InterruptError:
            pass  # no time for more
        except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError, apsw.FormatError) as error:
            raise _Damaged(f"is damaged: {error}") from None
        except apsw.IOError as error:
            if error.extendedresult != apsw.SQLITE_IOERR_SHORT_READ:  # type: ignore[attr-defined]  # not in apsw's stubs
                raise
            raise _Damaged("is damaged: it is shorter than it should be") from None
        except (UnicodeDecodeError, ValueError, TypeError) as error:
            raise _Damaged(f"is damaged: text that is none ({error})") from None
    finally:
        db.close()
    return True


def _this_log(path: str) -> dict[str, int]:
    info = os.stat(path + "-wal")
    return {"inode": info.st_ino, "size": info.st_size}


def _remember(path: str) -> None:
    """Say again what an earlier look found out, unless the log is another by now."""
    try:
        with open(path + ".damaged", encoding="utf-8") as file:
            known = json.load(file)
        verdict = known.pop("verdict")
        same = known == _this_log(path)
    except (OSError, ValueError, AttributeError, KeyError):
        return
    if same:
        raise _Damaged(f"{verdict} (without {path}.damaged it is used as it is)")


def _whole(db: apsw.Connection, path: str, had: int, end: float, *, anew: bool) -> None:
    db.execute("PRAGMA trusted_schema=OFF; PRAGMA query_only=ON")
    _tables(db)
    if db.pragma("journal_mode") == "wal":
        taken, _ = db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
        if taken < had:
            verdict = f"is damaged: its log had {had} frames, and {max(0, taken)} are whole"
            # The index has just been made anew: the next look could not see it.
            with contextlib.suppress(OSError), open(path + ".damaged", "w", encoding="utf-8") as file:
                json.dump({**_this_log(path), "verdict": verdict}, file)
            raise _Damaged(verdict)
        behind = 0 if anew and taken <= 0 else commits_from(path, max(0, taken))
        if behind > 1:
            raise _Damaged(f"is damaged: {behind} commits in its log lie behind a broken one")
    for check in ("PRAGMA integrity_check(1)", "PRAGMA foreign_key_check"):
        for row in db.execute(check):
            if row[0] != "ok":
                raise _Damaged(f"is damaged: {' '.join(map(str, row))}")
    for problem in _contents(db):
        if time.monotonic() > end:
            return
        if problem:
            raise _Damaged(f"is damaged: {problem}")


def _tables(db: apsw.Connection) -> None:
    """See that all tables have the columns that we read and write."""
    model = apsw.Connection(":memory:")
    model.execute(text("schema.sql"))
    schema = dict(db.execute("SELECT key, value FROM meta")).get("schema")
    if not isinstance(schema, int):
        raise _Damaged("is damaged: it does not tell its schema")
    if schema != SCHEMA:
        return  # whoever opens it knows what to say of that
    for (table,) in model.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE '%sqlite_%'"):
        query = f"PRAGMA table_info({table})"
        lacking = {row[1] for row in model.execute(query)} - {row[1] for row in db.execute(query)}
        if lacking:
            raise _Damaged(f"has no {', '.join(sorted(lacking))} in {table}")
    model.close()


_TASKS = """
SELECT digest, kind, argv, function, code, label, timeout, retries, backoff, backoff_max, jitter, grace, fresh,
    on_lost, max_output FROM tasks ORDER BY id DESC
"""


def _contents(db: apsw.Connection) -> Iterator[str | None]:
    """Look at what jobs run, and read all text; give a problem, or None after each step."""
    for known, *row in db.execute("SELECT digest, cwd, env, umask, python, path FROM contexts ORDER BY id DESC"):
        yield None if len(known) != 16 or digest(*row) == known else "a context is not what its digest says"
    for known, *row in db.execute(_TASKS):
        same = len(known) != 16 or known in (digest(*row), digest(*row[:9], int(row[9]), *row[10:]))
        yield None if same else f"the task {row[4]!r} is not what its digest says"
    for table in ("queues", "jobs", "attempts", "events"):
        for _ in db.execute(f"SELECT * FROM {table}"):
            yield None


# --- what to do ---------------------------------------------------------------------


def _backups(home: Home) -> list[str]:
    """Give the backups of a home, the newest first."""
    paths = [os.path.join(home.backups, name) for name in _listed(home.backups) if name.endswith(".db")]
    return sorted(paths, key=lambda path: os.stat(path).st_mtime, reverse=True)


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _advice(home: Home) -> str:
    for path in _backups(home):
        with contextlib.suppress(VigieError, apsw.Error, ValueError, TypeError, OSError):
            restore.check(path)
            made = time.strftime("%Y-%m-%d %H:%M", time.localtime(os.stat(path).st_mtime))
            return f"vigie agent restore {path}  brings back what there was at {made}, and keeps the damaged file"
    return f"there is no good backup; to begin anew: mv {home.root} {home.root}.damaged"
