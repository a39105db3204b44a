"""Checksum a tree in parallel, in the form of sha256sum, with progress, and going on where an earlier run ended.

    python checksums.py [DIRECTORY] [--fresh]

End it with Ctrl-C, or worse, and start it again: what was read is not read again, unless size or time of the file have
changed. The largest files go first, so that none of them is left to run alone at the end. Check the tree
later with `sha256sum -c`.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys

import vigie


def checksum(file):
    path, _, _ = file
    with open(path, "rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def files_of(directory: str) -> list[tuple[str, int, int]]:
    """Give path, bytes and time (ns) of each file, the largest first: by these three a run knows it again."""
    found = []
    for where, _, names in os.walk(directory):
        for path in (os.path.join(where, name) for name in names):
            try:
                about = os.lstat(path)
            except FileNotFoundError:
                continue  # gone since it was listed
            if stat.S_ISREG(about.st_mode):
                found.append((path, about.st_size, about.st_mtime_ns))
    return sorted(found, key=lambda file: (-file[1], file[0]))


def line(digest: str, name: str) -> str:
    """Give a line of sha256sum, which marks names that it had to write otherwise."""
    told = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if told == name else chr(92)}{digest}  {told}"


def main(directory: str, *, fresh: bool) -> int:
    sys.stdout.reconfigure(errors="surrogateescape")  # names may be any bytes
    directory = os.path.abspath(directory)
    files = files_of(directory)
    run = vigie.map(
        checksum, files, errors="collect", timeout="10m", retries=1, fresh=fresh,
        resume=f"checksums-{hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]}",
    )  # fmt: skip
    sums, unread = {}, {}
    for (path, _, _), outcome in zip(files, run, strict=True):
        if outcome.ok:
            sums[path] = outcome.value
        else:
            unread[path] = outcome.error
    for path in sorted(sums):
        print(line(sums[path], os.path.relpath(path, directory)))
    for path, why in unread.items():
        print(f"not read: {os.path.relpath(path, directory)}: {why}", file=sys.stderr)
    return 1 if unread else 0


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--fresh"]
    sys.exit(main(words[0] if words else os.path.dirname(os.path.abspath(__file__)), fresh="--fresh" in sys.argv))
