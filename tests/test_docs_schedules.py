"""The reference of schedules: its tables of expressions are what the program reads, and nothing is left out of it."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from vigie import agenda
from vigie.cli import schedule_options as options
from vigie.cli.words import WORDS
from vigie.declaration import JOB_KEYS, WHAT_KEYS, read_when
from vigie.firing import REASONS
from vigie.policies import CATCH_UPS, FIELDS, OVERLAPS, parse_policy
from vigie.triggers.when import KEYS

DOCS = Path(__file__).resolve().parent.parent / "docs"
TEXT = (DOCS / "reference" / "schedules.md").read_text(encoding="utf-8")
TUTORIAL = (DOCS / "tutorial" / "03-schedules.md").read_text(encoding="utf-8")
ZONE = "Europe/Paris"
NOW = round(datetime.fromisoformat("2026-03-01T12:00:00+01:00").timestamp() * 1_000_000)
#: What stands where no instant can be told.
NONE = "\N{EN DASH}"
#: Headings of tables of expressions, and what each holds.
KINDS = {
    "Plain phrases": "when", "Cron lines": "when", "Calendar expressions": "calendar", "Recurrence rules": "rrule",
    "What happens": "when",
}  # fmt: skip


def section(heading: str) -> str:
    """Give the text under a heading, up to the next one; a comment of a block is none."""
    found = re.search(rf"^#+ {heading}\n(.*?)(?=^#+ [A-Z]|\Z)", TEXT, re.M | re.S)
    assert found is not None, heading
    return found[1]


def rows(heading: str) -> list[list[str]]:
    """Give the rows of the first table under a heading."""
    table = next(text for text in section(heading).split("\n\n") if text.lstrip().startswith("| WHEN"))
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.strip().splitlines()[2:]]


def expressions() -> Iterator[tuple[str, list[str]]]:
    for heading, key in KINDS.items():
        for row in rows(heading):
            yield key, row


@pytest.mark.parametrize(
    ("key", "row"), list(expressions()), ids=lambda value: value if isinstance(value, str) else value[0]
)
def test_an_expression_means_what_its_row_says(key: str, row: list[str]) -> None:
    when = read_when({key: row[0].strip("`"), "timezone": ZONE}, now=NOW, seed="nightly")
    coming = [] if when.timed is None else islice(when.timed.after(NOW), 2)
    shown = [(agenda.in_zone(instant, when.zone) or "")[:19].replace("T", " ") for instant in coming]
    said = ["; ".join(when.describe())]
    if len(row) > 2:
        said.append(", ".join(text.removesuffix(":00").removeprefix("2026-") for text in shown) or NONE)
    assert row[1:] == said


# What the table of hard cases says of clocks and calendars --------------------------

POINTS = [
    {"when": "daily 02:30"}, {"cron": "30 2 * * *"}, {"calendar": "02:30"}, {"when": "at 02:30"},
    {"rrule": "FREQ=DAILY;BYHOUR=2;BYMINUTE=30;BYSECOND=0"},
]  # fmt: skip
WILD = [
    {"when": "hourly :30"}, {"cron": "30 * * * *"}, {"calendar": "*:30"}, {"cron": "30 */1 * * *"},
    {"rrule": "FREQ=HOURLY;BYMINUTE=30;BYSECOND=0"},
]  # fmt: skip


def coming(table: dict[str, str], start: str, count: int = 4) -> list[str]:
    """Give the next instants after a local time, as clocks there show them, without the date."""
    now = round(datetime.fromisoformat(start).astimezone(ZoneInfo(ZONE)).timestamp() * 1_000_000)
    when = read_when({**table, "timezone": ZONE}, now=now)
    assert when.timed is not None
    return [(agenda.in_zone(instant, when.zone) or "")[8:] for instant in islice(when.timed.after(now), count)]


@pytest.mark.parametrize("table", POINTS, ids=str)
def test_a_point_in_time_runs_once_whatever_the_clocks_do(table: dict[str, str]) -> None:
    assert coming(table, "2026-03-29T00:00:00+01:00", 1) == ["29T03:00:00+02:00"]
    assert coming(table, "2026-10-25T00:00:00+02:00", 2)[0] == "25T02:30:00+02:00"
    assert all(text.startswith("26T") for text in coming(table, "2026-10-25T00:00:00+02:00", 2)[1:])


@pytest.mark.parametrize("table", WILD, ids=str)
def test_wildcards_follow_what_clocks_show(table: dict[str, str]) -> None:
    shown = ["29T00:30:00+01:00", "29T01:30:00+01:00", "29T03:30:00+02:00", "29T04:30:00+02:00"]
    assert coming(table, "2026-03-29T00:00:00+01:00") == shown
    shown = ["25T01:30:00+02:00", "25T02:30:00+02:00", "25T02:30:00+01:00", "25T03:30:00+01:00"]
    assert coming(table, "2026-10-25T01:00:00+02:00") == shown


def test_intervals_follow_elapsed_time() -> None:
    shown = ["29T01:45:00+01:00", "29T03:30:00+02:00", "29T04:15:00+02:00"]
    assert coming({"when": "every 45m"}, "2026-03-29T01:00:00+01:00", 3) == shown


@pytest.mark.parametrize("table", [{"when": "yearly 02-29"}, {"cron": "0 0 29 2 *"}, {"calendar": "*-2-29"}], ids=str)
def test_leap_days_come_in_leap_years(table: dict[str, str]) -> None:
    when = read_when({**table, "timezone": ZONE}, now=NOW)
    assert when.timed is not None
    found = [(agenda.in_zone(instant, when.zone) or "")[:10] for instant in islice(when.timed.after(NOW), 2)]
    assert found == ["2028-02-29", "2032-02-29"]


@pytest.mark.parametrize(
    ("table", "days"),
    [
        ({"when": "monthly 31"}, ["31T", "31T", "31T", "31T", "31T", "31T", "31T"]),
        ({"when": "monthly last"}, ["28T", "31T", "30T", "31T"]),
        ({"cron": "0 0 L * *"}, ["28T", "31T", "30T", "31T"]),
        ({"calendar": "*-*~1"}, ["28T", "31T", "30T", "31T"]),
        ({"rrule": "FREQ=MONTHLY;BYMONTHDAY=-1"}, ["28T", "31T", "30T", "31T"]),
    ],
    ids=str,
)
def test_ends_of_months(table: dict[str, str], days: list[str]) -> None:
    assert [text[:3] for text in coming(table, "2026-02-01T00:00:00+01:00", len(days))] == days


# What must not be left out ------------------------------------------------------------


def test_every_key_of_a_table_is_there() -> None:
    for key in (*KEYS, *FIELDS, *JOB_KEYS, *WHAT_KEYS, "task"):
        assert re.search(rf"`{key}[` ]|[` ]{key}[` ]|, {key}`", TEXT), key


def test_every_option_is_there() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    for build in (options.triggers, options.policies, options.work):
        build(parser)
    named = [name for action in parser._actions for name in action.option_strings]
    assert len(named) > 35
    assert [name for name in named if not re.search(rf"`{name}[ `]", TEXT)] == []


def test_every_reason_and_policy_is_there() -> None:
    reasons = dict(re.findall(r"^\| `([\w-]+)` \| (.*) \|$", section("Outcomes"), re.M))
    assert {key: reasons.get(key) for key in REASONS} == REASONS
    assert {"ran", "late", "caught-up", "skipped"} == set(reasons) - set(REASONS)
    policies = section("Policies")
    for word in (*OVERLAPS, *CATCH_UPS):
        assert f"`{word.replace('_', '-')}`" in policies


def test_the_defaults_are_those_of_the_program() -> None:
    shown = dict(re.findall(r"^\| `--[^|]*\| `(\w+)` \| `([^`]+)` \|$", section("Policies"), re.M))
    assert set(shown) == {"overlap", "catch_up", "if_wait", "history"}
    assert parse_policy(shown) == parse_policy({})


def test_the_keys_of_json_are_there() -> None:
    row = dict.fromkeys(
        ("id", "state", "until", "owner", "last_instant", "last_outcome", "next", "waiting", "created", "changed"), None
    ) | {"name": "x", "spec": "{}", "policy": "{}", "runs": 0, "cwd": b"/\0", "planned": 0, "shift": 0}
    triggers = read_when("daily 22:00", now=NOW).to_json()
    label = {"label": "true", "kind": "command", "argv": b"true\0", "function": None}
    plan = agenda.Agenda({**row, **label, "triggers": json.dumps(triggers)})
    firing = dict.fromkeys(
        ("instant", "due", "last", "count", "outcome", "reason", "detail", "cause", "job", "state", "exit_code"), None
    ) | dict.fromkeys(("started", "duration", "at"), None)
    shown = set(re.findall(r"`([^`]+)`", section("JSON")))
    named = {word for text in shown for word in re.split(r"[, ]+", text)}
    assert set(plan.json(NOW)) | set(agenda.firing(firing, plan.zone)) <= named


@pytest.mark.parametrize("word", ["when", "schedule", "firing", "trigger", "policy"])
def test_vigie_help_knows_the_words(word: str) -> None:
    assert WORDS[word]


def test_the_topics_say_all_outcomes_and_policies() -> None:
    for word in (*REASONS, "ran", "late", "caught-up", "skipped"):
        assert re.search(rf"^  +{word} ", WORDS["firing"], re.M), word
    for key in FIELDS:
        assert key.replace("_", "-") in WORDS["policy"], key


@pytest.mark.parametrize("phrase", sorted(set(re.findall(r'`"([^"`…]+)"`', TUTORIAL))))
def test_the_phrases_of_the_tutorial_can_be_read(phrase: str) -> None:
    if phrase in ("project",) or re.match(r"(idle|load|disk|command|30m)\b", phrase):
        return
    assert read_when({"when": phrase, "timezone": ZONE}, now=NOW).describe()
