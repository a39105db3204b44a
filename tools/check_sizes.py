"""Refuse modules over 600 lines and functions over 60.

    python tools/check_sizes.py src

A function's docstring does not count. Exits with 1 and one line for each excess.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MODULE_LINES = 600
FUNCTION_LINES = 60

Function = ast.FunctionDef | ast.AsyncFunctionDef


def function_lines(node: Function) -> int:
    """Count a function's lines from ``def`` to its end, its docstring excluded."""
    total = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node, clean=False) is not None:
        docstring = node.body[0]
        total -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
    return total


def excesses(path: Path) -> Iterator[str]:
    """Give one line for each thing in a file that is too long."""
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    if lines > MODULE_LINES:
        yield f"{path}: {lines} lines; a module has at most {MODULE_LINES}: split it by duty"
    for node in ast.walk(ast.parse(text, str(path))):
        if isinstance(node, Function):
            size = function_lines(node)
            if size > FUNCTION_LINES:
                most = FUNCTION_LINES
                yield f"{path}:{node.lineno}: {node.name} has {size} lines; a function has at most {most}"


def main(roots: list[str]) -> int:
    """Check every Python file under the roots; give the exit code."""
    files = sorted(file for root in roots for file in Path(root).rglob("*.py"))
    if not files:
        print(f"check_sizes: no Python files under {' '.join(roots) or 'nothing'}")
        return 2
    found = [line for file in files for line in excesses(file)]
    print("\n".join(found) or f"sizes: {len(files)} modules are fine")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
