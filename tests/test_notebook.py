"""Parallel runs in a notebook: the example says what it shows, and no worker outlives its kernel."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
KERNEL = "vigie-under-test"

pytestmark = pytest.mark.slow

# In a process of its own, since libraries of the notebook's world warn of much.
RUNNER = """
import json, sys
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
made = nbformat.reads(sys.stdin.read(), as_version=4)
client = NotebookClient(made, timeout=60, kernel_name=sys.argv[1], allow_errors="allow" in sys.argv)
try:
    client.execute()
except DeadKernelError:
    pass
json.dump(made, sys.stdout)
"""


@pytest.fixture
def execute(home, tmp_path):
    """Give a runner: ``execute(cells)`` gives them with their outputs, in a kernel of this interpreter."""
    prefix = tmp_path / "prefix"
    env = os.environ | {
        "JUPYTER_PATH": str(prefix / "share" / "jupyter"), "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"), "IPYTHONDIR": str(tmp_path / "ipython"),
    }  # fmt: skip

    def run(*command, **how):
        command = [sys.executable, "-W", "ignore", *command]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=120, env=env, cwd=tmp_path, **how
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("-m", "ipykernel", "install", "--prefix", prefix, "--name", KERNEL)

    def execute_(cells, *words):
        notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        return json.loads(run("-c", RUNNER, KERNEL, *words, input=json.dumps(notebook)))["cells"]

    yield execute_
    # Nothing of this is anybody's but the test's.
    assert os.listdir(home.user) == []


@pytest.fixture
def example(execute):
    """Give a runner: ``example("parallel.ipynb")`` gives the cells as they are stored, and as they come out."""

    def run(name):
        stored = json.loads((EXAMPLES / name).read_text(encoding="utf-8"))["cells"]
        emptied = [cell | {"outputs": [], "execution_count": None} if "outputs" in cell else cell for cell in stored]
        return stored, execute(emptied)

    return run


def code(*sources):
    return [
        {
            "cell_type": "code", "id": f"c{number}", "metadata": {}, "source": source, "outputs": [],
            "execution_count": None,
        }
        for number, source in enumerate(sources)
    ]  # fmt: skip


def printed(cell):
    """What a cell has written, and what its last line is worth."""
    text = ""
    for output in cell.get("outputs", ()):
        if output["output_type"] == "stream" and output["name"] == "stdout":
            text += "".join(output["text"])
        elif output["output_type"] == "execute_result":
            text += "".join(output["data"]["text/plain"])
    return text


def shown(cell):
    """The progress that a cell was asked to show, without how fast it was."""
    outputs = cell["outputs"] if "progress=" in "".join(cell["source"]) else []
    lines = ["".join(one["data"]["text/plain"]) for one in outputs if one["output_type"] == "display_data"]
    return [re.sub(r" · [\d.,]+/(s|min|h)\b|[\d.]+ s$", "", line) for line in lines]


def test_the_notebook_shows_what_happens(example, home, until):
    stored, real = example("parallel.ipynb")
    assert [printed(cell) for cell in real] == [printed(cell) for cell in stored]
    assert any(map(printed, stored))
    cells = {cell["id"]: cell for cell in real}
    assert shown(cells["shown"]) == ["squares: 20 of 20 · in "]
    assert shown(cells["resumed"]) == [
        "slow_square: 10 of 10 · in ",
        "slow_square: 10 of 10 · 10 earlier · in ",
    ]
    assert [shown(cell) for cell in real if "outputs" in cell] == [shown(cell) for cell in stored if "outputs" in cell]
    until(lambda: not home.processes())


def test_an_interrupted_run_ends_and_the_kernel_goes_on(execute, home, until):
    interrupted = """
import os, signal, time, vigie
def ring(_):
    os.kill(os.getppid(), signal.SIGINT)  # as Jupyter does it
    time.sleep(600)
list(vigie.map(ring, range(4), limit=1))
"""
    _, error, alive = execute(code("pass", interrupted, "list(vigie.map(abs, [-1, -2]))"), "allow")
    assert [one["ename"] for one in error["outputs"] if one["output_type"] == "error"] == ["KeyboardInterrupt"]
    assert printed(alive) == "[1, 2]"
    until(lambda: not home.processes())


def test_no_worker_outlives_a_kernel_that_is_killed(execute, home, tmp_path, until):
    busy = f"""
import os, signal, time, vigie
def nap(n):
    open(r"{tmp_path}/" + str(os.getpid()), "w").close()
    time.sleep(600 if n else 0)
    return n
pool = vigie.Pool(1)
pool.submit(nap, 0).result()
pool.submit(nap, 600)
run = vigie.map(nap, [0, 600, 600], limit=2)
next(run)
os.kill(os.getpid(), signal.SIGKILL)
"""
    execute(code(busy))
    workers = [int(name) for name in os.listdir(tmp_path) if name.isdigit()]
    assert len(workers) >= 2
    until(lambda: not home.processes())
