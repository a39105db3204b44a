"""``vigie demo``: real work on this machine's own files, and a crash in the middle of it.

``tree`` is what it works on, ``stage`` what is printed and run, ``story`` the scenes in
their order, ``load`` the crash and the count after it, ``work`` the functions that run
as jobs.
"""

from __future__ import annotations

__all__: list[str] = []
