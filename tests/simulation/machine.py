"""The state machine: what people, time and bad luck do to the world."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from simulation.deeds import Script
from simulation.kernel import SECOND
from simulation.processes import Now
from simulation.world import World

#: One byte a choice: cheap to draw, and zero is always the simplest choice.
SCRIPT = st.binary(min_size=16, max_size=16)
SHORT = st.binary(min_size=6, max_size=6)


class Machine(RuleBasedStateMachine):
    """Drives one world."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    def teardown(self) -> None:
        world = self.world
        try:
            world.settle()
        except BaseException as error:
            error.add_note("\n".join(world.history[-400:]))
            raise
        finally:
            world.close()

    @initialize(warm=st.booleans())
    def begin(self, warm: bool) -> None:
        self.world.warm = warm
        self.world.start_agent()

    @rule(script=SCRIPT)
    def start_commands(self, script: bytes) -> None:
        self.world.clients.submit("command", Script(script))

    @rule(script=SCRIPT)
    def start_functions(self, script: bytes) -> None:
        self.world.clients.submit("function", Script(script))

    @rule(script=SHORT)
    def ask(self, script: bytes) -> None:
        self.world.clients.ask(Script(script))

    @rule(script=SCRIPT)
    def go(self, script: bytes) -> None:
        for choice in script:
            if not self.world.happen(choice):
                break

    @rule(most=st.integers(0, 40))
    def calm(self, most: int) -> None:
        self.world.calm(most)

    @rule(script=SHORT)
    def pass_time(self, script: bytes) -> None:
        choose = Script(script)
        micros = (10_000, 60_000, 300_000, SECOND, 5 * SECOND, 30 * SECOND)[choose.take(6)]
        self.world.pass_time(micros, calm=choose.take(4) != 3)

    @rule(script=SHORT)
    def kill(self, script: bytes) -> None:
        choose = Script(script)
        world = self.world
        kind = ("agent", "keeper", "worker", "agent", "keeper", "worker", "command", "all")[choose.take(8)]
        fuse = choose.take(24)
        victims = list(world.kernel.living() if kind == "all" else world.kernel.living(kind))
        if kind != "all" and victims:
            victims = [victims[choose.take(len(victims))]]
        for proc in victims:
            world.kill(proc, 0 if kind == "all" else fuse)

    @rule(script=SCRIPT)
    def misfortune(self, script: bytes) -> None:
        choose = Script(script)
        world = self.world
        what = choose.take(6)
        agent = world.agent
        if what == 0:
            world.power_cut(choose)
        elif what == 1:
            world.kernel.set_wall((-3600, 3600, 86_400 * 365)[choose.take(3)] * SECOND)
        elif what == 2:
            disk = Now.vfs.disk
            disk.trouble, disk.many = ("full", "sync")[choose.take(2)], 1 + choose.take(3)
        elif agent is None:
            world.start_agent()
        elif what == 3:
            world.do(agent.proc, agent.shut_down)
        elif what == 4:
            world.do(agent.proc, agent.checkpoint)
        else:
            world.do(agent.proc, agent.retire_idle)
