"""Services of a test: added and asked through the agent's own protocol, and seen in the store."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import apsw

from conftest import HomeUnderTest, until
from vigie.client import Client
from vigie.supervision.plan import Plan

SECOND = 1_000_000
#: With it, whatever ends has been ready for long enough to be followed at once.
AT_ONCE = {"settled": 0}


class Served:
    """The services of one home."""

    def __init__(self, home: HomeUnderTest) -> None:
        self.home = home
        home.leftovers_expected = True
        self.client = Client(home)

    def add(self, name: str, *argv: str, plan: dict[str, Any] | Plan | None = None, **fields: Any) -> dict[str, Any]:
        """Add a service that runs a command, and start it."""
        if isinstance(plan, Plan):
            plan = json.loads(plan.to_json())
        env = {"PATH": os.environ["PATH"], **fields.pop("env", {})}
        context = {"cwd": self.home.top, "env": env, "umask": 0o22, "python": None, "path": []}
        task = {"kind": "command", "argv": list(argv), "label": " ".join(argv)}
        whole = {"spec": {"run": list(argv)}, "plan": plan or {}, "task": task, "context": context, "start": True}
        answer: dict[str, Any] = self.client.call("service_set", name=name, **{**whole, **fields})
        return answer

    def ask(self, verb: str, *names: str, **fields: Any) -> list[dict[str, Any]]:
        """Ask for something; give how each instance stands."""
        found: list[dict[str, Any]] = self.client.call(f"service_{verb}", names=list(names), **fields)["instances"]
        return found

    def wait(self, *names: str, how: str = "settled", seconds: float = 20.0) -> dict[str, str]:
        """Wait until it is so; give the state of each instance."""
        asked = {"names": list(names), "until": how, "timeout": round(seconds * SECOND)}
        answer = self.client.call("service_wait", **asked)
        assert answer["done"], answer
        return {each["name"]: each["state"] for each in answer["instances"]}

    def rows(self, query: str, *bind: Any) -> list[tuple[Any, ...]]:
        """Read from the store."""
        with apsw.Connection(self.home.db, flags=apsw.SQLITE_OPEN_READONLY) as db:
            return list(db.execute(query, bind))

    def state(self, name: str) -> str:
        """Give the state of an instance."""
        return str(self.rows("SELECT state FROM instances WHERE name = ?", name)[0][0])

    def cause(self, name: str) -> str:
        """Give why it is in that."""
        return str(self.rows("SELECT cause FROM instances WHERE name = ?", name)[0][0])

    def pid(self, name: str) -> int:
        """Give the main process of a life under way, once it is known."""
        query = """SELECT a.pid FROM instances i JOIN jobs j ON j.id = i.job JOIN attempts a ON a.job = j.id
            WHERE i.name = ? AND j.finished IS NULL AND a.pid IS NOT NULL"""
        return int(until(lambda: self.rows(query, name), what=f"a process of {name}")[0][0])

    def lives(self, name: str) -> list[tuple[int, str]]:
        """Give the lives of an instance: job and state, the first first."""
        return [(row[0], row[1]) for row in self.rows("SELECT id, state FROM jobs WHERE name = ? ORDER BY id", name)]

    def states(self, name: str) -> list[str]:
        """Give the states through which an instance has gone."""
        query = "SELECT after FROM events WHERE verb = 'service-state' AND object = ? ORDER BY id"
        seen = [str(row[0]) for row in self.rows(query, f"service:{name}")]
        return [state for at, state in enumerate(seen) if at == 0 or seen[at - 1] != state]

    def until_state(self, name: str, state: str) -> None:
        """Wait until an instance is in a state."""
        until(lambda: self.state(name) == state, what=f"{name} to be {state}")

    def kill(self, name: str) -> int:
        """Kill its main process; give which it was."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def another(self, name: str, than: int) -> int:
        """Wait for its next life; give its process."""
        return int(until(lambda: (pid := self.pid(name)) != than and pid, what=f"another life of {name}"))
