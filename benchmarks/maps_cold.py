"""One item by two processes that do not run yet: ``maps_cold.py map|pool|executor importable|main``.

All of it is measured, Python's own start and end included. The function is one that a worker imports, or one of
``__main__``.
"""

from __future__ import annotations

import sys

from work import double


def own(n: int) -> int:
    """Do as little as ``double``, from here."""
    return 2 * n


def main() -> None:
    """Do it."""
    way, function = sys.argv[1], own if sys.argv[2] == "main" else double
    if way == "map":
        import vigie

        (found,) = vigie.map(function, [21], limit=2)
    elif way == "pool":
        import vigie

        with vigie.Pool(2) as pool:
            found = pool.submit(function, 21).result()
    else:
        from concurrent.futures import ProcessPoolExecutor

        with ProcessPoolExecutor(2) as executor:
            (found,) = executor.map(function, [21])
    assert found == 42


if __name__ == "__main__":
    main()
