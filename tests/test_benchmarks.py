"""The benches: that each of them runs. What they measure is no test's business."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def test_a_limit_is_named_for_a_bench_with_an_aim():
    aims = runpy.run_path(str(BENCHMARKS / "aims.py"))["AIMS"]
    limits = runpy.run_path(str(BENCHMARKS / "limits.py"))["LIMITS"]
    assert set(limits) <= set(aims)


def test_an_unknown_bench_is_refused():
    done = subprocess.run([sys.executable, BENCHMARKS / "run.py", "nonsense"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "no bench nonsense; there are functions," in done.stderr


@pytest.mark.slow
def test_each_bench_runs(tmp_path):
    results = BENCHMARKS / "RESULTS.md"
    before = results.read_bytes() if results.exists() else None
    words = ["--scale", "0.001", "--rounds", "1", "--no-peers"]
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "run.py", *words],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    # That every aim has its result, run.py sees to itself.
    assert len(rows) > 20
    assert {line.count(" | ") for line in rows} == {7}
    assert (results.read_bytes() if results.exists() else None) == before
    assert list(tmp_path.iterdir()) == []
