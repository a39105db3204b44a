"""The state machine: what people, time and bad luck do to the world."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from simulation.deeds import Script
from simulation.kernel import SECOND
from simulation.now import Now
from simulation.world import World

#: One byte a choice: cheap to draw, and zero is always the simplest choice.
SCRIPT = st.binary(min_size=32, max_size=32)


class Machine(RuleBasedStateMachine):
    """Drives one world. What a rule does not use of its script is spent on letting things happen."""

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

    @initialize(kind=st.integers(0, 3))
    def begin(self, kind: int) -> None:
        self.world.warm = kind % 2 == 1
        self.world.kernel.tells = kind < 2
        self.world.start_agent()

    @rule(script=SCRIPT)
    def start(self, script: bytes) -> None:
        choose = Script(script)
        self.world.clients.submit(("command", "function")[choose.take(2)], choose)
        self.world.go(choose)

    @rule(script=SCRIPT)
    def ask(self, script: bytes) -> None:
        choose = Script(script)
        self.world.clients.ask(choose)
        self.world.go(choose)

    @rule(script=SCRIPT)
    def go(self, script: bytes) -> None:
        choose = Script(script)
        micros = (0, 0, 10_000, 60_000, 300_000, SECOND, 5 * SECOND, 30 * SECOND)[choose.take(8)]
        if micros:
            self.world.pass_time(micros, calm=choose.take(4) != 3)
        else:
            self.world.calm(choose.take(64))
        self.world.go(choose)

    @rule(script=SCRIPT)
    def kill(self, script: bytes) -> None:
        choose = Script(script)
        for kind in VICTIMS[choose.take(len(VICTIMS))]:
            victims = list(self.world.kernel.living(kind))
            if victims:
                self.world.kill(victims[choose.take(len(victims))], choose.take(16))
        self.world.go(choose)

    @rule(script=SCRIPT)
    def misfortune(self, script: bytes) -> None:
        choose = Script(script)
        world = self.world
        what = choose.take(9)
        agent = world.agent
        if what == 0:
            world.power_cut(choose)
        elif what == 8:
            Now.vfs.disk.power = 1 + choose.take(40)
            world.cut_script = Script(bytes(reversed(script)))
        elif what == 1:
            world.kernel.set_wall((-3600, 3600, 86_400 * 365)[choose.take(3)] * SECOND)
        elif what == 2:
            disk = Now.vfs.disk
            disk.trouble, disk.many = ("full", "sync")[choose.take(2)], 1 + choose.take(3)
        elif what < 5:
            for proc in list(world.kernel.living()):
                world.kill(proc, 0)
        elif agent is None:
            world.start_agent()
        else:
            world.do(agent.proc, (agent.shut_down, agent.checkpoint, agent.retire_idle)[what - 5])
        world.go(choose)


#: Who may die together.
VICTIMS = (
    ("agent",),
    ("keeper",),
    ("worker",),
    ("command",),
    ("agent", "keeper"),
    ("keeper", "agent"),
    ("agent", "worker"),
    ("keeper", "worker"),
    ("agent", "keeper", "worker"),
    ("agent", "keeper", "command"),
)
