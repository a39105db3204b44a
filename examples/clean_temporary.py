"""Delete temporary files that nobody has touched for a week, and the directories that are empty then.

    python clean_temporary.py [--older-than DAYS] [--dry-run] DIRECTORY…

Every Sunday, at some moment of half an hour, and not while the machine is busy:

    vigie schedule add clean "weekly sun 04:00" --jitter 30m --if "load < 4" --timeout 1h -- \\
        python3 clean_temporary.py ~/tmp

In a file it is [schedule.clean] of vigie.toml.

Only files of yours go. Links are not followed, other file systems are not entered, and it works by open directories,
so that nobody can move a directory from under it and have something else deleted.
"""

from __future__ import annotations

import argparse
import os
import stat
import sys
import time
from dataclasses import dataclass


@dataclass
class Cleaning:
    """What is deleted, and what was."""

    before: float
    device: int
    dry: bool
    files: int = 0
    directories: int = 0
    size: int = 0
    trouble: int = 0

    def directory(self, fd: int, path: str) -> bool:
        """Clean an open directory; True if nothing is left in it and something was deleted."""
        deleted = left = False
        with os.scandir(fd) as entries:
            for entry in list(entries):
                try:
                    gone = self.entry(fd, entry.name, os.path.join(path, entry.name))
                except OSError as error:
                    self.trouble += 1
                    gone = False
                    print(f"{os.path.join(path, entry.name)!r}: {error.strerror}", file=sys.stderr)
                deleted |= gone
                left |= not gone
        return deleted and not left

    def entry(self, parent: int, name: str, path: str) -> bool:
        """Delete a file that is old, clean a directory; True if it is gone."""
        state = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if state.st_uid != os.geteuid() or state.st_dev != self.device:
            return False
        if stat.S_ISDIR(state.st_mode):
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
            try:
                empty = self.directory(fd, path)
            finally:
                os.close(fd)
            if empty:
                self.directories += 1
                if not self.dry:
                    os.rmdir(name, dir_fd=parent)
            return empty
        is_file = stat.S_ISREG(state.st_mode) or stat.S_ISLNK(state.st_mode)
        if not is_file or max(state.st_mtime, state.st_atime) >= self.before:
            return False
        if not self.dry:
            os.unlink(name, dir_fd=parent)
        self.files += 1
        self.size += state.st_blocks * 512
        return True


def main() -> int:
    parser = argparse.ArgumentParser(description="Delete temporary files that nobody has touched for a while.")
    parser.add_argument("directories", nargs="+", metavar="DIRECTORY")
    parser.add_argument("--older-than", type=float, default=7, metavar="DAYS", help="days; default 7")
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")
    args = parser.parse_args()
    trouble = 0
    for directory in map(os.path.expanduser, args.directories):
        if os.path.realpath(directory) in ("/", os.path.realpath(os.path.expanduser("~"))):
            parser.error(f"{directory} holds more than temporary files")
        try:
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            print(f"{directory}: {error.strerror}", file=sys.stderr)
            trouble += 1
            continue
        try:
            cleaning = Cleaning(time.time() - args.older_than * 86_400, os.fstat(fd).st_dev, args.dry_run)
            cleaning.directory(fd, directory)
        finally:
            os.close(fd)
        verb = "would go" if args.dry_run else "deleted"
        print(
            f"{directory}: {cleaning.files} files and {cleaning.directories} directories {verb},"
            f" {cleaning.size / 1e6:.1f} MB"
        )
        trouble += cleaning.trouble
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main())
