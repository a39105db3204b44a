"""The README and its picture show what happens."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import docs_session
from readme import README, ROOT, block, parse

# README -----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_readme_shows_what_happens(home: Any) -> None:
    with docs_session.Session(home.user, home.root) as session:
        found = list(docs_session.differences(README, session))
    assert not found, "\n(python tests/docs_session.py --write README.md rewrites it)\n" + "\n".join(map(str, found))


@pytest.mark.slow
def test_the_example_of_python_runs_as_a_program(home: Any, tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text("\n".join(block("python")), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert re.fullmatch(r"<job 1: .* [0-9a-f]{64}", said[0])
    assert said[1:3] == ["[0, 1, 4, 9, 16] done", "True"]
    assert said[3].startswith("job 4 failed: exit code 1")


def commands_in_readme() -> Iterator[str]:
    for one in docs_session.blocks(README):
        if one.language == "console":
            yield from (command.text for command in docs_session.commands(one))
        elif one.language == "text":
            yield from (line[2:] for line in one.lines if line.startswith("$ "))
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    yield from (found for found in re.findall(r"`([^`]+)`", prose) if found.startswith("vigie "))


def test_every_verb_and_option_of_the_readme_exists() -> None:
    found = list(commands_in_readme())
    assert len(found) > 15
    for line in found:
        words = shlex.split(re.sub(r"; echo [^']*$", "", line), comments=True)
        if words[0] == "vigie" and words != ["vigie"]:
            parse(words[1:])


def test_the_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"\bmake ([a-z]+)", README)) <= targets


def test_the_readme_names_no_figure_of_its_own() -> None:
    """Times, rates and sizes stand in benchmarks/RESULTS.md; outside of blocks there is one: the demo's."""
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    assert re.findall(r"\d+(?:\.\d+)? ?(?:ms|µs|s|MB|MiB|/s|times)\b", prose) == []


# The picture ------------------------------------------------------------------------


PICTURE = ROOT / "docs" / "pictures" / "tour.svg"


def test_the_picture_is_of_the_tour() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "picture.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_picture_shows_what_the_readme_shows() -> None:
    root = ET.parse(PICTURE).getroot()
    drawn = root.findtext("{http://www.w3.org/2000/svg}desc")
    assert drawn is not None
    assert docs_session.matches(block("console"), drawn.splitlines())


def test_the_picture_is_small_and_needs_nothing_from_elsewhere() -> None:
    text = PICTURE.read_text(encoding="utf-8")
    assert len(text) < 20_000
    assert (
        re.findall(r"https?://(?!www\.w3\.org/2000/svg)|<(?:image|script|style|a|use|foreignObject)\b|@import", text)
        == []
    )
    assert f"]({PICTURE.relative_to(ROOT)})" in README


@pytest.mark.slow
def test_the_picture_is_drawn_from_a_real_terminal(need: Callable[..., str], tmp_path: Path) -> None:
    need("tmux")
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import picture
    finally:
        sys.path.pop(0)
    svg = picture.draw(picture.shot(["printf '\\033[1;31mred\\033[0m  <plain>\\n'", "vigie jobs"]))
    root = ET.fromstring(svg)
    texts = {one.text: one for one in root.iter("{http://www.w3.org/2000/svg}text")}
    assert texts["red"].get("fill") == picture._COLORS[31]
    assert texts["red"].get("font-weight") == "bold"
    assert float(texts["<plain>"].get("x") or 0) - float(texts["red"].get("x") or 0) == pytest.approx(
        5 * picture._WIDE, abs=0.1
    )
    assert "no jobs yet · vigie start -- sleep 60" in texts
