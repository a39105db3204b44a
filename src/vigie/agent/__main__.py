"""``python -m vigie.agent HOME``."""

from __future__ import annotations

import sys

from vigie.agent.main import main

if __name__ == "__main__":
    sys.exit(main())
