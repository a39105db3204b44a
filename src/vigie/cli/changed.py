"""What a change of something declared is, in lines for people."""

from __future__ import annotations

import json

from vigie import zones
from vigie.agenda import in_zone
from vigie.change import redacted
from vigie.terminal import clean
from vigie.triggers.when import KEYS as TRIGGERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from vigie.change import Change

__all__ = ["change_lines", "instant_of", "plural"]


def plural(count: int, thing: str) -> str:
    """Say how many.

    >>> plural(1, "firing"), plural(2000, "firing")
    ('1 firing', '2,000 firings')
    """
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def change_lines(change: Change) -> Iterator[str]:
    """Say one change in lines, the first of them with its sign."""
    head = f"{change.sign} {change.kind} {change.name}"
    if change.after is None or change.before is None:
        said = _what(change.kind, change.after or change.before or {})
        yield clean(f"{head}: {said}" if change.after is not None else head)
    else:
        yield clean(f"{head}: {'; '.join(_differences(change))}")
    if change.kind == "schedule" and (moves := _moves(change)):
        yield f"    {moves}"


def _what(kind: str, table: dict[str, Any]) -> str:
    """Say shortly what a table says."""
    if kind == "queue":
        slots = plural(table["slots"], "slot") if "slots" in table else "default slots"
        return f"{slots}, {table['rate']}" if "rate" in table else slots
    work = next((_said(table[key], key) for key in ("run", "shell", "script", "python") if key in table), "")
    if kind == "task":
        return work
    if kind == "service":
        many = f" · {table['instances']} instances" if table.get("instances", 1) > 1 else ""
        return work + many
    when = [
        _said(table[key]) if key == "when" else f"{key} {_said(table[key])}" for key in TRIGGERS[:10] if key in table
    ]
    return f"{', '.join(when)} ({table['timezone']}) · {work}"


def _said(value: Any, key: str = "") -> str:
    """Write a value for people: words of a command as they are typed, texts without quotes."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(each, str | int | float) for each in value):
        from vigie.submission import quoted

        words = [str(each) for each in value]
        return " ".join(map(quoted, words)) if key in ("run", "script") else ", ".join(words)
    return json.dumps(value, ensure_ascii=False)


def _differences(change: Change) -> Iterator[str]:
    before, after = redacted(change.before or {}), redacted(change.after or {})
    for key in change.keys:
        old, new = before.get(key), after.get(key)
        if old == new:
            yield f"{key}: its content is another"
        elif isinstance(old, dict) and isinstance(new, dict):
            for name in sorted({*old, *new}):
                if old.get(name) != new.get(name):
                    yield f"{key}.{name} {_or_none(old.get(name))} → {_or_none(new.get(name))}"
        else:
            yield f"{key} {_or_none(old, key)} → {_or_none(new, key)}"


def _or_none(value: Any, key: str = "") -> str:
    return "none" if value is None else _said(value, key)


def _moves(change: Change) -> str:
    """Say which instant is the next."""
    if change.paused:
        return "paused"
    old, new = _wall(change.due, change), _wall(change.next, change)
    if change.before is None:
        return f"next {new}" if change.next is not None else ""
    if change.after is None:
        return f"would have come {old}" if change.due is not None else ""
    return f"next {old} → {new}" if old != new else ""


def _wall(instant: int | None, change: Change) -> str:
    if instant is None:
        return "at no known time"
    return (instant_of(instant, change) or "").replace("T", " ")


def instant_of(instant: int | None, change: Change) -> str | None:
    """Write an instant in the zone of what is changed."""
    return in_zone(instant, zones.load(change.zone))
