"""The people: they submit and ask, and resend what was not answered, as ``vigie.client`` does."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from simulation.deeds import Broken, Plan, Script, command_spec, function_spec
from simulation.kernel import SECOND
from simulation.wire import End
from vigie import frames

if TYPE_CHECKING:
    from simulation.world import World

CONTEXT = {"cwd": "/", "env": {"A": "1"}, "umask": 0o022, "python": None, "path": []}
#: Most jobs at once that hold a key.
KEYS = {"one": 1, "two": 2}
#: What is asked, the usual more often.
ASKED = (*["stop"] * 4, *["suspend"] * 3, "resume", *["retry"] * 2, "remove", "slots", "pause", "unpause")


class Request:
    """One request, sent until it is answered or its client has given up."""

    def __init__(self, header: dict[str, Any], blobs: list[bytes], answered: Callable[[dict[str, Any]], None]) -> None:
        self.header = header
        self.blobs = blobs
        self.answered = answered
        self.patient = True
        self.end: End | None = None
        self.decoder = frames.Decoder()


class Clients:
    """All clients together, and what they know."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.waiting: list[Request] = []
        self.plans: dict[int, Plan] = {}
        #: Acknowledged jobs: their plan.
        self.jobs: dict[int, Plan] = {}
        self.removed: set[int] = set()
        #: Jobs of which a client asked something, whether or not it was answered.
        self.asked: dict[str, set[int]] = {"stop": set(), "retry": set(), "suspend": set(), "remove": set()}
        self.most_slots = 2
        self._rids = 0

    # --- sending ------------------------------------------------------------------

    def send(
        self, op: str, answered: Callable[[dict[str, Any]], None], blobs: list[bytes] | None = None, **more: Any
    ) -> Request:
        """Put a request on its way."""
        self._rids += 1
        header = {"op": op, "id": self._rids, "rid": f"{self._rids:032x}", **more}
        request = Request(header, blobs or [], answered)
        self.waiting.append(request)
        self.world.note(f"client asks {op} { ({k: v for k, v in more.items() if k not in ('context',)}) }")
        return request

    def todo(self) -> list[Callable[[], Any]]:
        """Give what clients could do next."""
        found: list[Callable[[], Any]] = []
        agent = self.world.agent
        for request in self.waiting:
            if request.end is None:
                if agent is not None and agent.listening:
                    found.append(partial(self._connect, request))
            elif request.end.readable:
                found.append(partial(self._receive, request))
        if agent is None and self.waiting:
            found.append(self._start_agent)
        return found

    def _start_agent(self) -> None:
        if self.world.agent is None:
            self.world.start_agent()

    def _connect(self, request: Request) -> None:
        agent = self.world.agent
        if agent is None or not agent.listening or request.end is not None or request not in self.waiting:
            return
        end = agent.connect("client")
        request.end = end
        request.decoder = frames.Decoder()
        end.send(frames.encode({"vigie": 1, "role": "client", "version": "1", "program": "sim", "terminal": None}))
        end.send(frames.encode(request.header, request.blobs))

    def arrive(self) -> None:
        """Have all requests reach the agent before it does anything."""
        agent = self.world.agent
        assert agent is not None
        for request in self.waiting:
            self._connect(request)
        for transport in list(agent.loop.transports):
            while transport.end.readable:
                self.world.do(agent.proc, transport.receive)

    def _receive(self, request: Request) -> None:
        # Whose turn was to come may have died with the power meanwhile.
        if request not in self.waiting or request.end is None or not request.end.readable:
            return
        data = request.end.recv(1 << 20)
        if not data:
            request.end = None
            if not request.patient:
                self.waiting.remove(request)
            return
        for header, _ in request.decoder.feed(data):
            if header.get("re") == request.header["id"]:
                self.world.note(f"client hears {request.header['op']} {header}")
                self.waiting.remove(request)
                request.end.close()
                request.answered(header)

    def all_die(self) -> None:
        """The power failed."""
        self.waiting.clear()

    # --- starting jobs --------------------------------------------------------------

    def submit(self, kind: str, script: Script) -> None:
        """Start jobs of one request."""
        options, task = self._options(script), self._task(kind, script)
        results: list[int] = []
        if kind == "command":
            specs = [command_spec(script)] * (1, 1, 2, 3)[script.take(4)]
        else:
            tiny = task["function"] == "m:tiny"
            count = (1, 2, 5, 7)[script.take(4)] if tiny else (1, 1, 2)[script.take(3)]
            specs = [function_spec(script, tiny) for _ in range(count)]
        if options.get("key") is not None:
            specs = specs[:1]
        if kind == "function" and len(specs) == 1 and script.chance(3):
            results = [job for job in self._known(script, 1) if self.jobs[job].kind == "function"]
        patient = not script.chance(6)
        self.start(kind, specs, task, options, results).patient = patient

    def start(
        self, kind: str, specs: list[dict[str, Any]], task: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None, results: Sequence[int] = (),
    ) -> Request:  # fmt: skip
        """Submit one request: a job for each spec, which all commands of one request share."""
        number = len(self.plans) + 1
        for index, spec in enumerate(specs):
            spec.update(k=number, i=0 if kind == "command" else index)
            spec.setdefault("d", 300)
        task = {**(task or {})}
        blobs: list[bytes] = []
        if kind == "command":
            task["argv"] = ["job", json.dumps(specs[0])]
        else:
            task.setdefault("function", "m:work")
            blobs = [json.dumps([[spec], {}]).encode() for spec in specs]
        said: dict[str, Any] = {"encodings": ["json"] * len(specs)}
        if results:
            said["deps"] = {"0": [[[0, "from"], job] for job in results]}
        elif kind == "function" and len(specs) > 1:
            # As the library does.
            said, blobs = {"together": True}, [b"[" + b",".join(blobs) + b"]"]
        plan = Plan(number, kind, specs, task, options or {}, list(results))
        self.plans[number] = plan
        return self.send(
            "submit",
            lambda answer: self._submitted(plan, answer),
            blobs,
            # One task for all that are tiny, so that it is known when more of them come.
            task={"kind": kind, "label": "tiny" if task.get("function") == "m:tiny" else f"k{number}", **task},
            context=CONTEXT,
            job=plan.options,
            count=len(specs),
            **said,
        )

    def _task(self, kind: str, script: Script) -> dict[str, Any]:
        task: dict[str, Any] = {}
        if kind == "function":
            task["function"] = ("m:tiny", "m:work")[script.take(2)]
        if script.chance(3):
            task.update(retries=1 + script.take(2), backoff=(1, 3)[script.take(2)] * SECOND)
        if script.chance(4):
            task["timeout"] = (200_000, 2 * SECOND)[script.take(2)]
        if script.chance(4):
            task["on_lost"] = "rerun"
        if kind == "function" and script.chance(8):
            task["fresh"] = True
        task["grace"] = (1, 0, 3)[script.take(3)] * SECOND
        return task

    def _options(self, script: Script) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if script.chance(5):
            options["priority"] = script.take(3)
        if script.chance(10):
            options["now"] = True
        if script.chance(5):
            options["due"] = self.world.kernel.wall_us + (1, 20)[script.take(2)] * SECOND
        if script.chance(4):
            options["concurrency"] = [[key, KEYS[key]] for key in (("one",), ("two",), ("one", "two"))[script.take(3)]]
        if script.chance(4):
            options["after" if script.chance(2) else "after_any"] = self._known(script, 2)
        if script.chance(8):
            options["key"] = f"key{script.take(2)}"
        return options

    def _known(self, script: Script, most: int) -> list[int]:
        return self._some(script, most, sorted(set(self.jobs) - self.asked["remove"]))

    def _some(self, script: Script, most: int, jobs: list[int]) -> list[int]:
        return sorted({jobs[-1 - script.take(len(jobs))] for _ in range(1 + script.take(most))}) if jobs else []

    def _fitting(self, op: str) -> list[int]:
        """Give the jobs of which it makes sense to ask this, as far as one can see from outside."""
        deeds = self.world.deeds.values()
        if op == "retry":
            found = {deed.job for deed in deeds if deed.over and (deed.code or deed.signal or deed.how != "return")}
        elif op in ("suspend", "resume"):
            found = {deed.job for deed in deeds if deed.living}
        elif op == "stop":
            found = set(self.jobs) - {deed.job for deed in deeds if deed.over}
        else:
            return []
        return sorted((found & set(self.jobs)) - self.asked["remove"])

    def _submitted(self, plan: Plan, answer: dict[str, Any]) -> None:
        if "error" in answer:
            return
        if answer["existing"]:
            return
        ids = answer["ids"]
        if len(ids) != len(plan.specs):
            raise Broken(f"{len(plan.specs)} jobs were submitted, {len(ids)} acknowledged")
        plan.ids = ids
        for job in ids:
            if job in self.jobs and self.jobs[job] is not plan:
                raise Broken(f"job {job} was acknowledged to two clients")
            self.jobs[job] = plan
        self.world.warm_up()

    # --- asking -------------------------------------------------------------------------

    def ask(self, script: Script) -> None:
        """Ask something of a job or a queue."""
        op = ASKED[script.take(len(ASKED))]
        if op == "slots":
            self.set_slots(1 + script.take(3))
            return
        if op in ("pause", "unpause"):
            self._pause(op == "pause")
            return
        fitting = self._fitting(op)
        ids = self._some(script, 2, fitting) if fitting and script.take(4) else self._known(script, 2)
        if not ids:
            return
        more: dict[str, Any] = {}
        if op == "stop":
            more["grace"] = (None, 0)[script.take(2)]
        if op == "remove":
            more["force"] = bool(script.take(2))
        self.say(op, ids, **more).patient = not script.chance(6)

    def say(self, op: str, ids: list[int], **more: Any) -> Request:
        """Ask something of jobs."""
        if op in self.asked:
            self.asked[op].update(ids)
        if more.get("force"):
            self.asked["stop"].update(ids)
        return self.send(op, lambda answer: self._answered(op, ids, answer), ids=ids, **more)

    def _answered(self, op: str, ids: list[int], answer: dict[str, Any]) -> None:
        if "error" in answer:
            return
        if op == "remove":
            self.removed.update(answer["removed"])
        if op == "stop":
            for said in answer["jobs"]:
                self.world.checks.stopped(said)

    def set_slots(self, slots: int) -> None:
        """Give the queue another number of slots."""
        # While it is on its way either number may hold.
        self.most_slots = max(self.most_slots, slots)
        self.send("queue_set", lambda answer: None, name="default", slots=slots)

    def _pause(self, on: bool) -> None:
        self.send("queue_pause" if on else "queue_resume", lambda answer: None, name="default")

    # --- the end --------------------------------------------------------------------------

    def settle(self) -> bool:
        """Ask for whatever keeps work from coming to its end; False if nothing could be asked."""
        for request in self.waiting:
            request.patient = True
        checks = self.world.checks
        paused = checks.paused()
        for queue in paused:
            self.send("queue_resume", lambda answer: None, name=queue)
        states = checks.open_states()
        frozen = [job for job, (state, _) in states.items() if state == "suspended"]
        if frozen:
            self.say("resume", frozen)
        endless = [job for job, (state, spec) in states.items() if spec["d"] > 1 << 40]
        if endless:
            self.say("stop", endless, grace=0)
        return bool(paused or frozen or endless)
