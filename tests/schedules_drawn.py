"""Schedules drawn at random: all kinds of triggers and policies, in zones with odd changes."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Any

from schedules_place import DAY, EPOCH, HOUR, MINUTE, SECOND

ZONES = (
    "UTC", "Europe/Paris", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca",
    "Asia/Kathmandu", "+05:30",
)  # fmt: skip
#: The zone whose file changes, and what it may say.
ODD = "Africa/Casablanca"
RULES = (ODD, "Europe/Lisbon", "Asia/Tehran", "America/St_Johns")
#: What other schedules wait for: the ends of jobs of those whose names begin so.
TIMED = "t"

CATCH_UPS = ("none", "latest", "latest", "all=3", "all=20")
OVERLAPS = ("skip", "skip", "queue-one", "queue-all=3", "parallel", "replace")
BLACKOUTS = ("22:00-06:00", "sat,sun", "mon-fri 09:00-17:00", "02:00-03:00", "sun 23:30-00:30")


def day(at: int) -> str:
    """Give the date (UTC) of an instant."""
    return f"{EPOCH + timedelta(microseconds=at):%Y-%m-%d}"


def clock(rng: Random) -> str:
    """Give a time of day, mostly one near which clocks are set."""
    hour = rng.choice((0, 1, 2, 2, 2, 3, 12, rng.randrange(24)))
    return f"{hour:02}:{rng.choice((0, 15, 30, 30, 45, 59)):02}"


def cron(rng: Random) -> str:
    hour, minute = rng.choice((0, 1, 2, 2, 3, rng.randrange(24))), rng.choice((0, 30, rng.randrange(60)))
    often = f"{minute} {hour}"
    return rng.choice(
        (
            f"{often} * * *", f"{often} * * mon-fri", f"{often} {rng.randrange(1, 29)} * *", f"{often} L * *",
            f"{often} 29 2 *", f"{often} * * sun#1", f"{often} 1,15 * 1", f"{often},{(hour + 5) % 24} * * *",
            "@daily", "@monthly", "@weekly", "H H * * *", f"{minute} */2 * * *", "*/20 * * * *", "*/7 2-4 * * *",
            "*/15 * * * * *", "30 2 15W * *",
        )
    )  # fmt: skip


def calendar(rng: Random) -> str:
    return rng.choice(
        (
            f"Mon..Fri *-*-* {clock(rng)}", "*-*~1 23:59:59", f"Sat *-*-1..7 {clock(rng)}", "*:0/20", "*:*:0/30",
            "*-1,7-1 00:00", f"*-*-* {clock(rng)}:30", "*-02-29", "Sun *-10..11-* 02:30", "quarterly", "0/6:00",
        )
    )  # fmt: skip


def rrule(rng: Random) -> str:
    return rng.choice(
        (
            "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=18;BYMINUTE=0;BYSECOND=0", "FREQ=DAILY;INTERVAL=3",
            "FREQ=WEEKLY;BYDAY=SU;BYHOUR=2;BYMINUTE=30;BYSECOND=0", "FREQ=HOURLY;INTERVAL=5;COUNT=50",
            "FREQ=MONTHLY;BYMONTHDAY=31", "FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU;BYHOUR=2;BYMINUTE=30;BYSECOND=0",
            "FREQ=MINUTELY;INTERVAL=45;COUNT=40",
        )
    )  # fmt: skip


def phrase(rng: Random, now: int) -> str:
    at = clock(rng)
    return rng.choice(
        (
            f"daily {at}", f"daily {at},13:10", f"weekdays {at}", f"weekly sun {at}", f"weekly mon,thu {at}",
            f"monthly 1,15 {at}", f"monthly last {at}", f"monthly last fri {at}", f"monthly 2nd tue {at}",
            f"yearly dec 24 {at}", "hourly", "hourly :15", f"every 2 weeks on mon,thu {at}", f"every 3 days at {at}",
            f"on {day(now + rng.randrange(2, 400) * DAY)} {at}", f"daily {at} every 10m for 2h", f"at {at}",
            f"every {rng.choice(('90m', '6h', '36h'))} from {at}",
        )
    )  # fmt: skip


def interval(rng: Random) -> str:
    return rng.choice(("every 45s", "every 5m", "every 90m", "every 7h", "every 2d", "every 30d", "in 20m", "in 3d"))


def triggers(rng: Random, now: int, kind: str) -> dict[str, Any]:
    """Give the keys of a table that say when."""
    match kind:
        case "again":
            return {"when": f"every {rng.choice(('40s', '10m', '3h', '2d'))} after {rng.choice(('start', 'end'))}"}
        case "job":
            return {"when": f"on job {TIMED}* {rng.choice(('completed', 'failed', 'stopped,failed', 'ended'))}"}
        case "boot":
            return {"when": "at boot"}
        case "interval":
            found: dict[str, Any] = {"when": interval(rng)}
        case "mixed":
            found = {"when": [phrase(rng, now), cron(rng), *([interval(rng)] if rng.random() < 0.3 else [])]}
        case "phrase":
            found = {"when": phrase(rng, now)}
        case "rrule":
            found = {"rrule": rrule(rng)}
        case "calendar":
            found = {"calendar": calendar(rng)}
        case _:
            found = {"cron": cron(rng)}
    if rng.random() < 0.15:
        found["from"] = day(now + rng.randrange(-30, 30) * DAY)
    if rng.random() < 0.15:
        found["until"] = day(now + rng.randrange(5, 400) * DAY)
    if rng.random() < 0.15:
        found["except"] = sorted({day(now + rng.randrange(1, 60) * DAY) for _ in range(4)})
    return found


KINDS = (
    "cron",
    "cron",
    "calendar",
    "rrule",
    "phrase",
    "phrase",
    "interval",
    "interval",
    "mixed",
    "again",
    "job",
    "boot",
)


def policy(rng: Random, kind: str) -> dict[str, Any]:
    """Give the keys of a table that say how."""
    found: dict[str, Any] = {"overlap": rng.choice(OVERLAPS), "history": 1_000_000_000}
    found["catch_up"] = rng.choice(CATCH_UPS[: 3 if found["overlap"] == "skip" else None])
    if rng.random() < 0.25:
        found["lateness"] = rng.choice(("1s", "10s", "5m", "3h", "3d", "60d"))
    if rng.random() < 0.25:
        found["jitter"] = rng.choice(("1s", "5m", "5m random", "2h", "2h random"))
    if rng.random() < 0.2:
        found["blackout"] = rng.sample(BLACKOUTS, rng.randrange(1, 3))
    if rng.random() < 0.2:
        found["if"] = rng.choice(("power", "power", {"command": ["test", "-e", "/there"]}))
        found["if_wait"] = rng.choice(("30s", "2m"))
    if rng.random() < 0.1:
        found["max_runs"] = rng.choice((1, 2, 5, 20))
    if rng.random() < 0.2:
        found["delete_after"] = rng.choice(("0s", "1s", "1h", "5d"))
    return found


def table(rng: Random, now: int, kind: str) -> dict[str, Any]:
    """Draw a schedule."""
    return {"run": ["true"], "timezone": rng.choice(ZONES), **triggers(rng, now, kind), **policy(rng, kind)}


def span(rng: Random, least: int, most: int) -> int:
    """Draw a duration (µs), each order of size as often."""
    return int(least * (most / least) ** rng.random())


__all__ = [
    "DAY", "HOUR", "KINDS", "MINUTE", "ODD", "RULES", "SECOND", "TIMED", "day", "policy", "span", "table", "triggers",
]  # fmt: skip
