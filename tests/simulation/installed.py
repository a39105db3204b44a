"""Putting the simulated machine under the code of production."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import Any
from unittest import mock

import apsw

import vigie.agent.ahead
import vigie.agent.keeper_link
import vigie.agent.main
import vigie.agent.outcomes
import vigie.agent.submit
import vigie.agent.watch
import vigie.agent.worker_link
import vigie.crash
import vigie.keeper
import vigie.keeper_talk
import vigie.store.sqlite
import vigie.worker_loop
from simulation.agent import Clock, OomWatch, Sampler, SimKeeperLink
from simulation.disk import NAME, Vfs
from simulation.keeper import fake_spawn, heard
from simulation.kernel import Os, Time
from simulation.now import Now, kernel
from simulation.store import Apsw
from simulation.wire import Selector
from vigie import procs


class Strict(logging.Handler):
    """Fails the simulation where production would log an exception and go on."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and isinstance(record.exc_info[1], Exception):
            raise record.exc_info[1]


def _pulse(name: str) -> None:
    kernel().pulse(name)


def installed() -> ExitStack:
    """Put the simulation under the production code, until the stack is closed."""
    stack = ExitStack()
    patch = mock.patch.multiple
    names = (
        "scan", "twins", "start_ticks", "alive", "open_pidfd", "send_signal", "exit_status", "parent",
        "boot_id", "boot_ticks",
    )  # fmt: skip

    def of_kernel(name: str) -> Any:
        def ask(*args: Any) -> Any:
            return getattr(kernel(), name)(*args)

        return ask

    os_, time_ = Os(kernel), Time(kernel)
    pidfd = mock.Mock(open_pid=of_kernel("open_pid"))
    owner = lambda: ("host", f"a{Now.world.counts['agent']}", kernel().boot)
    agent = vigie.agent
    for it in (
        patch(procs, **{name: of_kernel(name) for name in names}),
        patch(agent.main, SystemClock=Clock, owner=owner, cores=lambda: 2, Sampler=Sampler, KeeperLink=SimKeeperLink),
        patch(agent.main, os=os_),
        patch(agent.keeper_link, os=os_),
        patch(agent.watch, os=os_),
        patch(agent.outcomes, OomWatch=OomWatch),
        patch(agent.submit, PACK=2),
        patch(agent.ahead, QUICK=2_000_000, MEMORY=1, MOST=3),
        patch(agent.worker_link, LOT=2),
        patch(vigie.keeper, os=os_, time=time_, pidfd=pidfd, spawn=fake_spawn, point=_pulse),
        patch(vigie.keeper.selectors, DefaultSelector=Selector),
        patch(vigie.keeper_talk, log=heard),
        patch(vigie.keeper, log=lambda text: kernel().log(f"keeper: {text}")),
        patch(vigie.store.sqlite, apsw=Apsw()),
        patch(vigie.crash, point=_pulse, ARMED=True),
        patch(vigie.worker_loop, time=time_),
        patch(vigie.worker_loop.worker_watch, has_children=lambda: False),
    ):
        stack.enter_context(it)
    Now.vfs = Vfs()
    apsw.set_default_vfs(NAME)
    stack.callback(Now.vfs.unregister)
    stack.callback(apsw.set_default_vfs, "unix")
    strict = Strict(logging.ERROR)
    log = logging.getLogger("vigie.agent")
    before = log.level
    log.setLevel(logging.ERROR)
    log.addHandler(strict)
    stack.callback(log.setLevel, before)
    stack.callback(log.removeHandler, strict)
    return stack
