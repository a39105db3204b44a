"""Back a directory up: an archive, a checksum beside it, and both checked, each step a job.

    python backup.py SOURCE TARGET

Fit for cron. Two backups of one target never run at once (a concurrency key); each step has a timeout and retries;
`vigie why backup-check` says the next morning what happened. The archive gets its name only when it is whole.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time

import vigie


def checksum(path):
    """Write PATH.sha256 in the form of sha256sum, and give the digest."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with open(path + ".sha256", "w") as file:
        file.write(f"{digest}  {os.path.basename(path)}\n")
        file.flush()
        os.fsync(file.fileno())
    return digest


def check(path):
    """Read the archive back and compare it with its checksum; give the number of files in it."""
    import tarfile

    with open(path + ".sha256") as file:
        wanted = file.read().split()[0]
    with open(path, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != wanted:
            raise ValueError(f"{path} is not what was written")
    with tarfile.open(path) as archive:
        return sum(member.isfile() for member in archive)


def main(source: str, target: str) -> int:
    source, target = os.path.abspath(source), os.path.abspath(target)
    archive = os.path.join(target, f"{os.path.basename(source)}-{time.strftime('%Y%m%d-%H%M%S')}.tar.gz")
    common = {"tags": ["backup"], "timeout": "2h", "retries": 2, "backoff": "10s", "concurrency": {target: 1}}
    # The names reach the shell as arguments, never as text of the line.
    line = 'tar -C "$1" -czf "$3.part" "$2" && mv "$3.part" "$3"'
    pack = vigie.start(
        ["/bin/sh", "-ec", line, "backup", os.path.dirname(source), os.path.basename(source), archive],
        name="backup-pack", **common,
    )  # fmt: skip
    summed = vigie.task(name="backup-sum", after=[pack], **common)(checksum).start(archive)
    checked = vigie.task(name="backup-check", after=[summed], **common)(check).start(archive)
    try:
        files = checked.result()
    except vigie.JobFailed:
        for job in (pack, summed, checked):
            print(job, file=sys.stderr)
        print("".join(map(str, pack.receive())), end="", file=sys.stderr)
        return 1
    print(f"{files} files in {archive}, sha256 {summed.result()[:16]}…")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: backup.py SOURCE TARGET")
    sys.exit(main(*sys.argv[1:]))
