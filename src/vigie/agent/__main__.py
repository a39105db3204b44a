"""``python -m vigie.agent HOME``."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from vigie.agent.claim import make_secret, take_lock
from vigie.config import Home
from vigie.errors import StoreError, VigieError


def main() -> int:
    """Take the home named on the command line, and be its agent."""
    os.umask(0o077)
    home = Home(sys.argv[1] if len(sys.argv) > 1 else None)
    try:
        home.create()
        lock = take_lock(home)
        make_secret(home)
        home.sync()
    except VigieError as error:
        print(f"vigie agent: {error.message}", file=sys.stderr)
        return error.code
    except OSError as error:
        print(f"vigie agent: cannot use {home.root}: {error.strerror}", file=sys.stderr)
        return StoreError.code
    # Only now: whoever found the lock taken has not paid for this.
    _lighten()
    from vigie.agent.main import main as serve

    try:
        return serve(home)
    finally:
        os.close(lock)


def _lighten() -> None:
    """Import asyncio as on a Python without ssl: unix sockets need none, and it is 1.4 MB that stay."""
    modules: Any = sys.modules
    if "ssl" not in modules:
        modules["ssl"] = None
        importlib.import_module("asyncio")
        del modules["ssl"]


if __name__ == "__main__":
    sys.exit(main())
