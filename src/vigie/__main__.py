"""``python -m vigie`` is ``vigie``."""

from __future__ import annotations

from vigie.cli.main import entry

if __name__ == "__main__":
    entry()
