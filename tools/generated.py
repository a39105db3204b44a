"""Write, or with ``--check`` compare, the part of a document that a program makes.

It stands between two comments; what is around them is written by hand.
"""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"


def main(document: str, tool: str, body: str) -> int:
    """Put ``body`` into ``docs/document``; give the exit code."""
    begin = f"<!-- what follows is written by tools/{tool}.py -->"
    end = f"<!-- here ends what tools/{tool}.py writes -->"
    path = DOCS / document
    text = path.read_text(encoding="utf-8")
    before, mark, rest = text.partition(begin)
    _, mark_end, after = rest.partition(end)
    if not mark or not mark_end:
        print(f"{path}: the comments are missing:\n{begin}\n{end}", file=sys.stderr)
        return 2
    made = f"{before}{begin}\n\n{body.strip()}\n\n{end}{after}"
    if "--check" not in sys.argv:
        path.write_text(made, encoding="utf-8")
        return 0
    if made != text:
        import difflib

        print("\n".join(difflib.unified_diff(text.splitlines(), made.splitlines(), lineterm="", n=1)))
        print(f"{path} is not fresh: run python tools/{tool}.py", file=sys.stderr)
        return 1
    return 0
