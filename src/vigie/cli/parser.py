"""The parser of one verb: wrong usage is an error like any other, help has examples."""

from __future__ import annotations

import argparse

from vigie.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["Parser"]


class Parser(argparse.ArgumentParser):
    """An argument parser that raises :class:`UsageError` and takes no abbreviations."""

    def __init__(self, **how: object) -> None:
        how.setdefault("allow_abbrev", False)
        how.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**how)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Refuse, and name the help."""
        raise UsageError(f"{self.prog[6:] or 'vigie'}: {message}", f"{self.prog} -h")
