"""Which services depend on which: their order, and circles in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vigie.supervision.plan import Plan

__all__ = ["circle", "in_order", "needed"]


def needed(plan: Plan) -> tuple[str, ...]:
    """Give the services that a plan names, each once.

    >>> needed(Plan(after=("a",), requires=("b",), wants=("a",)))
    ('b', 'a')
    """
    return tuple(dict.fromkeys((*plan.requires, *plan.after, *plan.wants)))


def circle(plans: Mapping[str, Plan]) -> list[str] | None:
    """Give services that wait for each other in a circle, the first again at the end; None if there is none.

    >>> circle({"a": Plan(after=("b",)), "b": Plan(requires=("a",))})
    ['a', 'b', 'a']
    """
    over: set[str] = set()
    for first in plans:
        path: list[str] = []
        todo: list[tuple[str, bool]] = [(first, False)]
        while todo:
            name, leaving = todo.pop()
            if leaving:
                over.add(path.pop())
                continue
            if name in path:
                return [*path[path.index(name) :], name]
            if name in over or name not in plans:
                continue
            path.append(name)
            todo.append((name, True))
            todo += [(other, False) for other in reversed(needed(plans[name]))]
    return None


def in_order(plans: Mapping[str, Plan], names: Iterable[str] | None = None) -> list[str]:
    """Give services so that each comes after those that it names; circles are broken anywhere.

    >>> in_order({"api": Plan(requires=("db",)), "db": Plan()})
    ['db', 'api']
    """
    found: dict[str, None] = {}
    seen: set[str] = set()

    def visit(name: str) -> None:
        if name in seen or name not in plans:
            return
        seen.add(name)
        for other in needed(plans[name]):
            visit(other)
        found[name] = None

    for name in plans if names is None else names:
        visit(name)
    wanted = set(plans if names is None else names)
    return [name for name in found if name in wanted]
