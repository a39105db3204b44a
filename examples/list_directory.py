"""List all files below a directory in a job, and read what it has found while it works.

    python list_directory.py [DIRECTORY]

The function yields; each value is a record that is kept and can be received at once. End this program with
Ctrl-C and the job goes on; `vigie receive listing` gives the rest.
"""

from __future__ import annotations

import os
import sys

import vigie


def list_files(directory):
    """Yield (path, bytes) of the files of each directory, as one list a directory."""
    files = total = 0
    for where, _, names in os.walk(directory):
        found = []
        for name in names:
            path = os.path.join(where, name)
            try:
                found.append([path, os.lstat(path).st_size])
            except OSError as error:
                # Gone since it was listed, or not ours to see: a line of its own, on the error stream.
                print(error, file=sys.stderr)
        files += len(found)
        total += sum(size for _, size in found)
        if found:
            yield found
    return {"files": files, "bytes": total}


def main(directory: str) -> int:
    job = vigie.task(name="listing")(list_files).start(os.path.abspath(directory))
    largest = ["", -1]
    for record in job:
        if record.stream == "output":
            largest = max([largest, *record.value], key=lambda file: file[1])
        else:
            print(record.shown, file=sys.stderr)
    found = job.result()
    print(f"{found['files']} files, {found['bytes']} bytes")
    if found["files"]:
        print(f"largest: {os.path.relpath(largest[0], directory)}, {largest[1]} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))))
