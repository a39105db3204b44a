"""Stopping services in the reverse of the order in which they start."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from vigie.cli.context import Context

__all__ = ["stop_in_order"]


def stop_in_order(names: Iterable[str], out: Context, *, now: bool = False) -> list[dict[str, Any]]:
    """Stop services, each after all that name it; give how their instances stand."""
    from vigie.supervision.graph import needed
    from vigie.supervision.plan import Plan

    plans = {row["name"]: Plan.from_json(row["plan"]) for row in out.reader().services.all(list(names))}
    left, found = dict(plans), []
    while left:
        wanted = {other for name, plan in left.items() for other in needed(plan) if other != name}
        # In a circle, which nobody should have, nobody is last.
        last = [name for name in left if name not in wanted] or list(left)
        fields = {"grace": 0} if now else {}
        out.client().call("service_stop", names=last, **fields)
        found += out.client().call("service_wait", names=last, until="down", timeout=None)["instances"]
        for name in last:
            del left[name]
    return found
