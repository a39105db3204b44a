"""The documents: what they show happens, what they point at exists, what is generated is fresh."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import docs_session

ROOT = Path(__file__).resolve().parent.parent
DOCS = sorted((ROOT / "docs").rglob("*.md"))
#: The first is run by test_readme.py.
TEXTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
GENERATORS = ["cli_reference", "python_reference", "states_reference", "toml_schema"]


def name_of(path):
    return str(path.relative_to(ROOT))


def runs(path):
    blocks = docs_session.blocks(path.read_text(encoding="utf-8"))
    return any(block.language in ("console", "python") and block.file is None for block in blocks)


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in [*DOCS, *TEXTS[1:]] if path.exists() and runs(path)], ids=name_of)
def test_a_document_shows_what_happens(path, home):
    text = path.read_text(encoding="utf-8")
    with docs_session.Session(home.user, home.root) as session:
        found = list(docs_session.differences(text, session))
    said = "\n".join(map(str, found))
    assert not found, f"\n{name_of(path)} (python tests/docs_session.py --write rewrites it)\n{said}"


# The comparison itself --------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "real"),
    [
        (["took 5ms"], ["took 1.25s"]),
        (["at 17:03:44"], ["at 09:00:00.123"]),
        (["pid 12, 4 KiB"], ["pid 4711, 1.5 MiB"]),
        (["ID   STATE"], ["ID STATE"]),
        (["a", "…", "z"], ["a", "b", "c", "z"]),
        (["a …"], ["a whatever"]),
        ([], ["", ""]),
    ],
)
def test_what_varies_matches_by_its_form(shown, real):
    assert docs_session.matches(shown, real)


@pytest.mark.parametrize(
    ("shown", "real"),
    [
        (["1 completed"], ["2 completed"]),
        (["took 5ms"], ["took long"]),
        (["a"], []),
        ([], ["error"]),
        (["a", "…", "z"], ["a", "b"]),
        (["exit 3"], ["exit 4"]),
    ],
)
def test_what_differs_does_not_match(shown, real):
    assert not docs_session.matches(shown, real)


def test_a_document_that_lies_is_found(tmp_path, home):
    Path(home.root).mkdir()
    text = "```console\n$ echo one\ntwo\n$ echo three\nthree\n```\n\n```python\n>>> 1 + 1\n3\n>>> 2\n2\n```\n"
    with docs_session.Session(home.user, home.root) as session:
        found = list(docs_session.differences(text, session))
    assert [(one.shown, one.real) for one in found] == [(["two"], ["one"]), (["3"], ["2"])]
    assert docs_session.rewritten(text, found) == text.replace("two", "one").replace("\n3\n", "\n2\n")


# Links ------------------------------------------------------------------------------

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|<img[^>]*src=\"([^\"]+)\"")


def anchors(text):
    """Give the anchors of a Markdown text's headings, as forges make them."""
    made = set()
    fenced = False
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        heading = None if fenced else re.match(r"#+ (.+)", line)
        if heading:
            plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).strip().lower()
            made.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return made


def without_code(text):
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("path", [*DOCS, *(path for path in TEXTS if path.exists())], ids=name_of)
def test_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    dead = []
    for found in _LINK.finditer(without_code(text)):
        target = found[1] or found[2]
        if re.match(r"\w+:", target):
            continue
        file, _, anchor = target.partition("#")
        place = (path.parent / file).resolve() if file else path
        if not place.exists() or (anchor and anchor not in anchors(place.read_text(encoding="utf-8"))):
            dead.append(target)
    assert dead == []


def test_every_document_can_be_found_from_the_index():
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / found[1].partition("#")[0]).resolve() for found in _LINK.finditer(index.read_text())}
    wanted = [path for path in DOCS if path != index and path.parent.name != "decisions"]
    hidden = [name_of(path) for path in wanted if path not in linked]
    assert hidden == []


# What is generated ------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATORS)
def test_the_reference_is_what_the_program_says(name):
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / f"{name}.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
