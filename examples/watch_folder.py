"""A service that watches a folder: each new file is processed once, and moved to done or to error.

    vigie service add inbox -- python3 watch_folder.py in

A file is taken when its size has stood still for a look. It is moved to `work` before anything is done with it, so
that a service which is killed in the middle finds it there, and begins with it.
Processing here is counting its lines; a file that is no text goes to error, with the reason beside it.
"""

import os
import sys
import time
from pathlib import Path


def process(path: Path) -> str:
    """Do the work; raises what is wrong with a file."""
    with path.open(encoding="utf-8") as file:
        return f"{sum(1 for _ in file)} lines"


def handle(path: Path, top: Path) -> None:
    """Process one file, and put it where it belongs."""
    try:
        said = process(path)
    except Exception as error:
        (top / "error" / f"{path.name}.reason").write_text(f"{error}\n", encoding="utf-8")
        os.replace(path, top / "error" / path.name)
        print(f"{path.name}: {error}", file=sys.stderr, flush=True)
    else:
        os.replace(path, top / "done" / path.name)
        print(f"{path.name}: {said}", flush=True)


def main() -> None:
    """Watch for ever."""
    top = Path(sys.argv[1])
    every = float(sys.argv[2]) if len(sys.argv) > 2 else 2.0
    for name in ("", "work", "done", "error"):
        (top / name).mkdir(parents=True, exist_ok=True)
    for left in sorted((top / "work").iterdir()):
        print(f"{left.name}: taken up again", flush=True)
        handle(left, top)
    seen: dict[str, int] = {}
    while True:
        sizes = {entry.name: entry.stat().st_size for entry in os.scandir(top) if entry.is_file()}
        for name in sorted(name for name, size in sizes.items() if seen.get(name) == size):
            os.replace(top / name, top / "work" / name)
            handle(top / "work" / name, top)
            del sizes[name]
        seen = sizes
        time.sleep(every)


if __name__ == "__main__":
    main()
