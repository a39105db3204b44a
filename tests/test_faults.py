"""What the world may do to us: full and failing disks, too few descriptors, clients that do not read, wrong clocks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from conftest import STRICT, HomeUnderTest, need

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
#: Everything, and the measured: ``VIGIE_FAULTS=1``.
ALL = bool(os.environ.get("VIGIE_FAULTS"))


# A full disk -----------------------------------------------------------------------


@pytest.fixture
def on_small_disk(home: HomeUnderTest) -> object:
    """Play a scene of ``small_disk.py`` on a tmpfs that nobody else sees."""
    alone = [need("unshare"), "--mount"]
    if os.geteuid() != 0:
        alone += ["--user", "--map-root-user"]
    works = subprocess.run([*alone, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True)
    if works.returncode != 0:
        said = f"no private mounts here: {works.stderr.strip()}"
        if STRICT and os.geteuid() == 0:
            pytest.fail(said)
        pytest.skip(said)

    def play(scene: str) -> None:
        words = [sys.executable, str(HERE / "small_disk.py"), scene, home.top]
        done = subprocess.run([*alone, *words], capture_output=True, text=True, timeout=120)
        if done.returncode:
            pytest.fail(done.stdout + done.stderr, pytrace=False)

    return play


@pytest.mark.parametrize("scene", ["goes_on", "starts_again", "begins_without_room", "workers_without_room"])
def test_a_full_disk(on_small_disk, scene: str) -> None:
    on_small_disk(scene)
