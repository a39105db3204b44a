"""Run one Python function as a process of its own: ``python run_function.py WHERE FUNCTION [ARGS]``.

WHERE is a module, or the path of a script; FUNCTION its qualified name; ARGS the JSON of
``[args, kwargs]``. Run by path, on the project's own interpreter: nothing but the standard library is needed.
SIGTERM becomes ``SystemExit`` in the main thread, so that ``finally`` and ``atexit`` do their work.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import signal
import sys
from typing import Any

# The directory of this file holds Vigie's own modules, which are none of the project's.
sys.path[0] = os.getcwd()


def _load(where: str, name: str) -> Any:
    """Give a function by where it stands and how it is called there."""
    found: Any
    if where.endswith(".py"):
        import runpy

        # Under another name than __main__: what a script does when it is run is not done here.
        sys.path[0] = os.path.dirname(os.path.abspath(where))
        first, _, rest = name.partition(".")
        found = runpy.run_path(where, run_name="__vigie__")[first]
    else:
        found, rest = importlib.import_module(where), name
    for part in rest.split(".") if rest else ():
        found = getattr(found, part)
    return getattr(found, "__vigie_function__", found)


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number if number != signal.SIGTERM else 0)


def main(words: list[str]) -> None:
    """Run it; what it returns is not kept."""
    where, name = words[0], words[1]
    args, kwargs = json.loads(words[2]) if len(words) > 2 else ([], {})
    signal.signal(signal.SIGTERM, _end)
    function = _load(where, name)
    sys.argv = [where]
    result = function(*args, **kwargs)
    if inspect.iscoroutine(result):
        import asyncio

        asyncio.run(result)
    elif inspect.isgenerator(result):
        for _ in result:
            pass


if __name__ == "__main__":
    main(sys.argv[1:])
