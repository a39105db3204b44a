"""Waiting until what was asked of services has come true, and saying how they stand then."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from vigie.cli.context import Context

__all__ = ["finish", "wait"]

#: Seconds that somebody who asks for something waits for it to come true.
WAIT = 120.0


def finish(args: argparse.Namespace, answer: list[dict[str, Any]], names: list[str], until: str, out: Context) -> int:
    """Wait until what was asked for has come true, say how it is, and give the exit code."""
    from vigie.cli import service_show

    refused = [each["note"] for each in answer if each.get("note")]
    instances = answer
    if not args.no_wait:
        instances = wait(names, until, args.timeout, out)
    if args.json:
        out.json({"instances": [{**each, "note": _note(each["name"], answer)} for each in instances]})
    elif args.no_wait:
        if out.is_person:
            out.say(f"asked for · vigie service status {' '.join(names)}")
    else:
        service_show.say(instances, until, out, changed={each["name"] for each in answer if each.get("changed", True)})
    for note in refused:
        out.say(f"vigie: {note}")
    bad = until == "settled" and any(each["state"] in ("failed", "backoff") for each in instances)
    return 1 if refused or (bad and not args.no_wait) else 0


def _note(name: str, answer: list[dict[str, Any]]) -> str | None:
    return next((each.get("note") for each in answer if each["name"] == name), None)


def wait(names: list[str], until: str, longest: str | None, out: Context) -> list[dict[str, Any]]:
    """Wait until services are so; give how their instances stand then.

    Raises
    ------
    WaitTimeout
        When it is not so in time.
    """
    from vigie.errors import WaitTimeout
    from vigie.values import parse_duration

    micros = round(WAIT * 1e6) if longest is None else parse_duration(longest, "--timeout")
    answer = out.client().call("service_wait", names=names, until=until, timeout=micros)
    if not answer["done"]:
        late = ", ".join(f"{each['name']} is {each['state']}: {each['cause']}" for each in answer["instances"])
        raise WaitTimeout(f"not {until} in time: {late}", f"vigie service status {' '.join(names)}")
    found: list[dict[str, Any]] = answer["instances"]
    return found
