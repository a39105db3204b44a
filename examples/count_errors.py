"""Count the ERROR lines of all log files of a directory, one job a file, and print a sorted summary.

    python count_errors.py [DIRECTORY]

Without a directory it makes some sample logs. One request starts all jobs; how many run at once is the queue's affair.
A file that cannot be read is one failed job among many, and is said at the end.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

import vigie


@vigie.task(timeout="5m")
def count_errors(path):
    """Give the number of ERROR lines and of all lines."""
    errors = lines = 0
    with open(path, "rb") as log:
        for line in log:
            lines += 1
            errors += b"ERROR" in line
    return {"errors": errors, "lines": lines}


def make_samples(directory: Path) -> None:
    chance = random.Random(8)
    for name in ("web", "shop", "mail", "import", "login"):
        share = chance.random() / 5
        lines = ("ERROR it broke" if chance.random() < share else "INFO all is well" for _ in range(2000))
        (directory / f"{name}.log").write_text("".join(f"2026-11-22 {line}\n" for line in lines))


def summary(directory: Path) -> int:
    paths = sorted(directory.rglob("*.log"))
    if not paths:
        print(f"no *.log below {directory}", file=sys.stderr)
        return 1
    jobs = count_errors.start_many([(str(path.resolve()),) for path in paths])
    counted, unread = [], []
    for path, job in zip(paths, jobs, strict=True):
        try:
            counted.append((job.result(), path))
        except vigie.JobFailed as error:
            unread.append((path, error.__cause__ or error))
    counted.sort(key=lambda pair: (-pair[0]["errors"], pair[1]))
    for found, path in counted:
        print(f"{found['errors']:7} of {found['lines']:7} lines  {path.relative_to(directory)}")
    print(f"{sum(found['errors'] for found, _ in counted):7} errors in {len(counted)} files")
    for path, why in unread:
        print(f"not read: {path}: {why}", file=sys.stderr)
    return 1 if unread else 0


def main() -> int:
    if len(sys.argv) > 1:
        return summary(Path(sys.argv[1]))
    with tempfile.TemporaryDirectory() as directory:
        make_samples(Path(directory))
        return summary(Path(directory))


if __name__ == "__main__":
    sys.exit(main())
