"""What the tests of the README and of the demo share: its blocks, and its commands as the command line reads them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import docs_session
from vigie.cli import main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
VIGIE = os.path.join(os.path.dirname(sys.executable), "vigie")


def block(language: str) -> list[str]:
    """Give the lines of the first block in a language."""
    return next(one.lines for one in docs_session.blocks(README) if one.language == language)


def parse(words: list[str]) -> None:
    """Read words as the command line would; wrong verbs and options raise."""
    verb, rest = main._verb(words)
    if verb == "version" or words[1:] in (["--help"], ["-h"]):
        assert verb in ("version", *main.VERBS)
        return
    assert verb in main.VERBS, verb
    main._parse(verb, main.load(verb), rest)
