"""The world in which production code finds itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulation.disk import Vfs
from simulation.kernel import Kernel

if TYPE_CHECKING:
    from simulation.world import World


class Now:
    """The world in which production code finds itself."""

    world: World
    vfs: Vfs


def kernel() -> Kernel:
    return Now.world.kernel
