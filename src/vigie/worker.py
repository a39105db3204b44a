"""The warm Python process that runs functions: ``python worker.py HOME ID`` for the agent's jobs,
``python worker.py --map …`` for the items of a parallel run.

It is run by path, by any Python from 3.9 on, in projects that know nothing of
Vigie. So that none of our module names hides one of the project's, the files
beside this one are a private package ``_vigie``, and their directory leaves
``sys.path``; so that the project's functions find a clean ``__main__``, this one
steps aside. All else is in ``worker_loop`` and what it imports.
"""

from __future__ import annotations

import sys


def _step_aside() -> None:
    """Make our files the package ``_vigie``, and ``__main__`` an empty module."""
    import os

    # As Python does it: links in the path of the script are followed.
    here = os.path.dirname(os.path.realpath(__file__))
    if sys.path and os.path.realpath(sys.path[0] or ".") == here:
        del sys.path[0]
    module = type(sys)
    package = module("_vigie")
    package.__path__ = [here]
    sys.modules["_vigie"] = package
    sys.modules["_vigie.worker"] = sys.modules["__main__"]
    # multiprocessing imports the file of __main__ anew in each child: there is none.
    main = module("__main__")
    main.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = main


if __name__ == "__main__":
    _step_aside()
    if sys.argv[1:2] == ["--map"]:
        from _vigie.worker_map import main  # type: ignore[import-not-found]  # made above
    else:
        from _vigie.worker_loop import main  # type: ignore[import-not-found]  # made above

    main(sys.argv)
