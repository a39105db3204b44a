"""The one grammar of when: texts, tables and lists, what is said of wrong ones, and storing what was read."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vigie import zones
from vigie.errors import ExpressionError, UsageError
from vigie.triggers.combine import AnyOf, Repeated
from vigie.triggers.cron import Cron
from vigie.triggers.interval import Again, Every
from vigie.triggers.occasions import AtBoot, AtLogin, OnFile, OnIdle, OnJob, OnRecord
from vigie.triggers.wall import DAY, HOUR, MINUTE, SECOND, Zone
from vigie.triggers.when import KEYS, When, parse_when

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PARIS = zones.load("Europe/Paris")
HOLIDAYS = """BEGIN:VCALENDAR
BEGIN:VEVENT
SUMMARY:Christmas
DTSTART;VALUE=DATE:20261225
RRULE:FREQ=YEARLY
END:VEVENT
END:VCALENDAR
"""


def us(text: str) -> int:
    """Give the instant of an ISO text, in Paris unless it has an offset."""
    moment = datetime.fromisoformat(text)
    return ((moment if moment.tzinfo else moment.replace(tzinfo=PARIS.rules)) - EPOCH) // timedelta(microseconds=1)


#: A Friday.
NOW = us("2026-11-27T08:30:12.345")


def read_file(name: str) -> str:
    if name == "holidays.ics":
        return HOLIDAYS
    if name == "wrong.ics":
        return "BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:nonsense\nEND:VEVENT\nEND:VCALENDAR\n"
    raise FileNotFoundError(2, "No such file or directory", name)


def parse(value: object, zone: Zone = PARIS, now: int = NOW, **more: Any) -> When:
    return parse_when(value, zone, now, zones=zones.load, read=read_file, path=lambda text: f"/home/eve/{text}", **more)


def shown(when: When, most: int = 3, after: int = NOW) -> list[str]:
    assert when.timed is not None
    found = (EPOCH + timedelta(microseconds=each) for each in islice(when.timed.after(after), most))
    return [each.astimezone(when.zone.rules).strftime("%m-%d %H:%M") for each in found]


# Texts -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said", "expected"),
    [
        ("daily 22:00", "at 22:00 every day", ["11-27 22:00", "11-28 22:00", "11-29 22:00"]),
        ("*/5 * * * *", "every 5 minutes", ["11-27 08:35", "11-27 08:40", "11-27 08:45"]),
        ("30 0 9 * * 1-5", None, ["11-27 09:00", "11-30 09:00", "12-01 09:00"]),
        ("  0   9 * * 1-5 ", None, ["11-27 09:00", "11-30 09:00", "12-01 09:00"]),
        ("@daily", None, ["11-28 00:00", "11-29 00:00", "11-30 00:00"]),
        ("@HOURLY", None, ["11-27 09:00", "11-27 10:00", "11-27 11:00"]),
        ("hourly", None, ["11-27 09:00", "11-27 10:00", "11-27 11:00"]),
        ("weekly mon 08:00", None, ["11-30 08:00", "12-07 08:00", "12-14 08:00"]),
        ("? 9 * * ?", None, ["11-27 09:00", "11-27 09:01", "11-27 09:02"]),
    ],
)
def test_texts(text: str, said: str | None, expected: list[str]) -> None:
    when = parse(text)
    assert shown(when) == expected
    assert when.text == [text.strip()]
    assert said is None or when.describe() == [said]
    assert (when.again, when.occasions, when.zone) == ((), (), PARIS)


def test_a_hashed_field_depends_on_the_seed() -> None:
    found = {shown(parse("H 3 * * *", seed=seed), 1)[0] for seed in ("a", "b", "c", "d")}
    assert len(found) > 1
    assert all(each.startswith("11-28 03:") for each in found)
    assert shown(parse("H H(3-5) * * *", seed="a")) == shown(parse("H H(3-5) * * *", seed="a"))


@pytest.mark.parametrize("text", ["@reboot", "at boot", "@REBOOT"])
def test_boot(text: str) -> None:
    when = parse(text)
    assert when.occasions == (AtBoot(),)
    assert when.timed is None
    assert when.period(NOW) is None
    assert not when.relative


@pytest.mark.parametrize(
    ("text", "what", "expected"),
    [
        # A cron line, as it begins like one.
        ("0 25 * * *", 'hour 25 is not in 0..23: "0 25 * * *"', "0 to 23"),
        ("0 9 * *", "4 fields", "minute hour"),
        ("* * * * * * * *", "8 fields", "minute hour"),
        ("0 0 30 2 *", "it never fires", "a day that comes"),
        ("@foo", "@foo is not known", "@daily"),
        ("H H", "2 fields", "minute hour"),
        # A phrase.
        ("dayly 08:00", '"dayly" is no phrase of time', "daily, or"),
        ("daily 25:00", "hour 25 is not in 0..23", "0 to 23"),
        ("weekly 25:00", "hour 25 is not in 0..23", "0 to 23"),
        ("frobnicate", '"frobnicate" is no phrase of time', "daily 22:00"),
        ("", "nothing says when", "daily 22:00"),
        ("  \n", "nothing says when", "daily 22:00"),
        # Nearly a phrase.
        ("5m", '"5m" is neither a cron line nor a plain phrase', '"every 5m"'),
        ("2 weeks on mon", "is neither", '"every 2 weeks on mon"'),
        ("08:00", "is neither", '"daily 08:00"'),
        ("2026-12-24 18:00", "is neither", '"on 2026-12-24 18:00"'),
        ("last fri 18:00", "is neither", '"monthly last fri 18:00"'),
        ("dec 24 18:00", "is neither", '"yearly dec 24 18:00"'),
        ("file in/*.csv", "is neither", '"on file in/*.csv"'),
        ("boot", "is neither", '"at boot"'),
        # Another kind of expression.
        ("Mon..Fri *-*-* 08:00", "is neither", "--calendar"),
        ("*-*-* 08:00", "is neither", "--calendar"),
        ("*:0/5", "is neither", "--calendar"),
        ("Sat *-*~1 12:00 UTC", "is neither", "--calendar"),
        ("quarterly", "is neither", "--calendar"),
        ("@1395716396", "is neither", "--calendar"),
        ("FREQ=DAILY;BYHOUR=8", "is neither", "--rrule"),
        ("RRULE:FREQ=WEEKLY", "is neither", "--rrule"),
        # It was understood.
        ("on 2020-01-01", "it comes no more: its last instant has passed", None),
        ("at 2020-01-01T08:00", "it comes no more", None),
    ],
)
def test_one_clear_error_of_the_reading_that_got_furthest(text: str, what: str, expected: str | None) -> None:
    with pytest.raises(ExpressionError) as raised:
        parse(text)
    error = raised.value
    assert what in error.message
    assert error.code == 2
    if expected is not None:
        assert expected in str(error.expected)
        assert expected in str(error.hint)


def test_a_hint_about_another_reading_keeps_no_false_place() -> None:
    with pytest.raises(ExpressionError) as raised:
        parse("5m")
    assert raised.value.at is None
    assert raised.value.message == '"5m" is neither a cron line nor a plain phrase'


# Tables ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"when": "daily 22:00"}, ["11-27 22:00", "11-28 22:00", "11-29 22:00"]),
        ({"when": ["daily 22:00", "0 21 * * *"]}, ["11-27 21:00", "11-27 22:00", "11-28 21:00"]),
        ({"cron": "0 9 * * 1-5"}, ["11-27 09:00", "11-30 09:00", "12-01 09:00"]),
        ({"cron": ["0 9 * * 1", "@daily"]}, ["11-28 00:00", "11-29 00:00", "11-30 00:00"]),
        ({"calendar": "Mon..Fri *-*-* 08:00"}, ["11-30 08:00", "12-01 08:00", "12-02 08:00"]),
        ({"calendar": "Mon *-*-* 12:00 UTC"}, ["11-30 13:00", "12-07 13:00", "12-14 13:00"]),
        ({"rrule": "FREQ=DAILY;BYHOUR=9;BYMINUTE=0;BYSECOND=0"}, ["11-27 09:00", "11-28 09:00", "11-29 09:00"]),
        ({"rrule": "DTSTART:20261201T100000\nRRULE:FREQ=DAILY"}, ["12-01 10:00", "12-02 10:00", "12-03 10:00"]),
        ({"every": 3600}, ["11-27 09:30", "11-27 10:30", "11-27 11:30"]),
        ({"every": "1h"}, ["11-27 09:30", "11-27 10:30", "11-27 11:30"]),
        ({"every": timedelta(hours=1)}, ["11-27 09:30", "11-27 10:30", "11-27 11:30"]),
        ({"every": "1h from 09:00"}, ["11-27 09:00", "11-27 10:00", "11-27 11:00"]),
        ({"every": "2 weeks on mon 08:00"}, ["12-07 08:00", "12-21 08:00", "01-04 08:00"]),
        ({"when": "daily 08:00", "timezone": "Asia/Tokyo"}, ["11-28 08:00", "11-29 08:00", "11-30 08:00"]),
        ({"when": "daily 08:00", "timezone": "asia/tokyo"}, ["11-28 08:00", "11-29 08:00", "11-30 08:00"]),
        ({"when": "daily 22:00", "from": "2026-12-01"}, ["12-01 22:00", "12-02 22:00", "12-03 22:00"]),
        ({"when": "daily 22:00", "from": date(2026, 12, 1)}, ["12-01 22:00", "12-02 22:00", "12-03 22:00"]),
        ({"when": "daily 22:00", "from": datetime.fromisoformat("2026-12-01T22:01")},
         ["12-02 22:00", "12-03 22:00", "12-04 22:00"]),
        ({"when": "daily 22:00", "until": "2026-11-28"}, ["11-27 22:00", "11-28 22:00"]),
        ({"when": "daily 22:00", "until": datetime(2026, 11, 28, 21, 0, tzinfo=UTC)}, ["11-27 22:00", "11-28 22:00"]),
        ({"when": "daily 22:00", "until": "2026-11-28 21:59"}, ["11-27 22:00"]),
        ({"when": "daily 22:00", "except": "2026-11-28"}, ["11-27 22:00", "11-29 22:00", "11-30 22:00"]),
        ({"when": "daily 22:00", "except": [date(2026, 11, 27), "2026-11-29..2026-11-30"]},
         ["11-28 22:00", "12-01 22:00", "12-02 22:00"]),
        ({"when": "daily 22:00", "from": "2026-12-24", "except": ["holidays.ics"]},
         ["12-24 22:00", "12-26 22:00", "12-27 22:00"]),
        ({"when": "daily 09:00", "repeat": {"every": "10m", "for": "25m"}},
         ["11-27 09:00", "11-27 09:10", "11-27 09:20"]),
        ({"cron": "0 9 * * *", "repeat": {"every": 600, "for": 1500}, "except": "2026-11-27"},
         ["11-28 09:00", "11-28 09:10", "11-28 09:20"]),
    ],
)  # fmt: skip
def test_tables(table: dict[str, object], expected: list[str]) -> None:
    assert shown(parse(table)) == expected


def test_a_table_of_everything() -> None:
    when = parse(
        {
            "when": ["daily 08:00", "every 5m after end"],
            "cron": "0 9 * * *",
            "calendar": "*-*-* 10:00",
            "rrule": "FREQ=DAILY;BYHOUR=11;BYMINUTE=0;BYSECOND=0",
            "every": "1d",
            "on_file": ["in/*.csv", {"path": "/srv/x", "what": "created"}],
            "on_event": ["job a failed", {"record": "b", "level": "error"}],
            "on_idle": "10m",
            "at_boot": True,
            "at_login": True,
            "from": "2026-12-01",
            "until": "2026-12-31",
            "except": ["holidays.ics", "2026-12-24"],
            "timezone": "Europe/London",
        }
    )
    assert when.again == (Again(5 * MINUTE, "end", "every 5m after end"),)
    assert when.occasions == (
        OnFile("/home/eve/in/*.csv"), OnFile("/home/eve//srv/x", "created", 0), OnJob("a", ("failed",)),
        OnRecord("b", level="error"), OnIdle(10 * MINUTE), AtBoot(), AtLogin(),
    )  # fmt: skip
    assert shown(when, 5) == ["12-01 07:30", "12-01 08:00", "12-01 09:00", "12-01 10:00", "12-01 11:00"]
    assert when.zone.name == "Europe/London"
    assert {zone.name for zone in when.zones} == {"Europe/Paris", "Europe/London"}
    assert len(when.describe()) == len(when.text) == 13
    assert all(" from 2026-12-01 until 2026-12-31 except 2026-12-24, 1 calendar" in each for each in when.text)
    assert all(" from 2026-12-01 until 2026-12-31 except " in each for each in when.describe())
    for trigger in (*when.again, *when.occasions):
        allowed = ["11-30 12:00", "12-01 12:00", "12-24 12:00", "12-25 12:00", "12-26 12:00", "12-31 23:59"]
        found = [text for text in allowed if when.allows(trigger, us(f"2026-{text.replace(' ', 'T')}+00:00"))]
        assert found == ["12-01 12:00", "12-26 12:00", "12-31 23:59"]


@pytest.mark.parametrize(
    ("table", "occasion"),
    [
        ({"on_file": "a b/*.csv"}, OnFile("/home/eve/a b/*.csv")),
        ({"on_file": {"path": "a b", "for": "5s"}}, OnFile("/home/eve/a b", "settled", 5 * SECOND)),
        ({"on_file": {"path": "a", "for": 5}}, OnFile("/home/eve/a", "settled", 5 * SECOND)),
        ({"on_file": {"path": "a changed", "what": "changed"}}, OnFile("/home/eve/a changed", "changed", 0)),
        ({"on_event": "job a* ended"}, OnJob("a*")),
        ({"on_event": "on job a* ended"}, OnJob("a*")),
        ({"on_event": {"job": "a b", "state": ["failed", "lost"]}}, OnJob("a b", ("failed", "lost"))),
        ({"on_event": {"job": "tag", "state": "ended", "tag": "x y"}}, OnJob("tag", tag="x y")),
        ({"on_event": {"schedule": "nightly", "state": "failed"}}, OnJob("*", ("failed",), schedule="nightly")),
        ({"on_event": {"record": "a", "matching": "disk full"}}, OnRecord("a", matching="disk full")),
        ({"on_event": {"level": "error", "tag": "x"}}, OnRecord("*", "x", level="error")),
        ({"on_idle": "10m load 0.2"}, OnIdle(10 * MINUTE, 0.2)),
        ({"on_idle": {"for": 600, "load": 1}}, OnIdle(10 * MINUTE, 1.0)),
        ({"on_idle": {"for": "10m"}}, OnIdle(10 * MINUTE)),
        ({"at_boot": True, "at_login": False}, AtBoot()),
        ({"cron": "@reboot"}, AtBoot()),
        ({"when": "at login"}, AtLogin()),
    ],
)
def test_occasions_in_tables(table: dict[str, object], occasion: object) -> None:
    assert parse(table).occasions == (occasion,)


@pytest.mark.parametrize(
    ("value", "what", "expected"),
    [
        ({"cron": "0 9 * * *", "untill": "2027-01-01"}, "untill does not say when", "until; known are"),
        ({"wen": "daily"}, "wen does not say when", "when; known are"),
        ({}, "the table does not say when", "one of when, cron"),
        ({"timezone": "UTC"}, "the table does not say when", "one of when, cron"),
        ({"at_boot": False}, "the table does not say when", "one of when, cron"),
        ({"when": 5}, "when is 5", "a text"),
        ({"when": []}, "the table does not say when", "one of when, cron"),
        ({"cron": ["0 9 * * *", 5]}, "cron is 5", "a text"),
        ({"cron": True}, "cron is True", "a text"),
        ({"at_boot": "yes"}, "at_boot is 'yes'", "true or false"),
        ({"at_boot": 1}, "at_boot is 1", "true or false"),
        ({"every": True}, "every is True", "a text"),
        ({"every": 0}, "duration 0s is too short", "millisecond"),
        ({"every": "5 parsecs"}, '"5 parsecs" is no duration', "5m"),
        ({"when": "daily", "timezone": "Europe/Pariss"}, 'there is no time zone "Europe/Pariss"', "Europe/Paris"),
        ({"when": "daily", "timezone": 1}, "timezone is 1", "a text"),
        ({"calendar": "daily Europe/Pariss"}, "Europe/Pariss", "Europe/Paris"),
        ({"cron": "0 25 * * *"}, "hour 25 is not in 0..23", "0 to 23"),
        ({"calendar": "25:00"}, "hour 25 is not in 0..23", "0 to 23"),
        ({"rrule": "FREQ=HOURLY;BYHOUR=25"}, "25", "23"),
        ({"on_file": ""}, "on_file has no name", "/srv/in"),
        ({"on_file": {"pth": "x"}}, "on_file knows no pth", "path; known are"),
        ({"on_file": {"what": "created"}}, "on_file lacks path", "path = "),
        ({"on_file": {"path": "x", "what": "made"}}, '"made" cannot stand here', "created"),
        ({"on_file": 5}, "on_file is 5", "a text or a table"),
        ({"on_event": {"job": "x"}}, "on_event lacks state", "state = "),
        ({"on_event": {"job": "x", "state": "died"}}, '"died" is no end of a job', "failed"),
        ({"on_event": {"record": "x", "lvel": "error"}}, "on_event", "record"),
        ({"on_event": "backup failed"}, "on_event is about a job or a record", "job NAME failed"),
        ({"on_event": "file x"}, "on_event is about a job or a record", "job NAME failed"),
        ({"on_event": "on"}, "on_event is about a job or a record", "job NAME failed"),
        ({"on_idle": {"load": 0.5}}, "on_idle lacks for", "for = "),
        ({"when": "daily", "repeat": "10m"}, "repeat is '10m'", "{every"),
        ({"when": "daily", "repeat": {"every": "10m"}}, "repeat lacks for", "for = "),
        ({"when": "daily", "repeat": {"for": "10m"}}, "repeat lacks every", "every = "),
        ({"when": "daily", "repeat": {"every": "10m", "for": "10m"}}, "the repetition repeats nothing", "every 10m"),
        ({"when": "daily", "repeat": {"every": "10m", "until": "1h"}}, "repeat knows no until", "every, for"),
        ({"at_boot": True, "repeat": {"every": "10m", "for": "1h"}}, "nothing that repeat could repeat", "cron"),
        ({"when": "daily", "from": time(8)}, "datetime.time(8, 0) does not say when", None),
        ({"when": "daily", "until": "2026-11-26"}, "it never comes: until has passed", None),
        ({"at_boot": True, "until": "2026-11-26"}, "it never comes: until has passed", None),
        ({"when": "yearly 12-24", "until": "2026-12-01"}, "from, until and except leave nothing of it", None),
        ({"when": "on 2026-12-24", "except": "2026-12-24"}, "from, until and except leave nothing of it", None),
        ({"when": "yearly 12-25 12:00", "except": "holidays.ics"}, "from, until and except leave nothing of it", None),
        ({"when": "daily", "from": "2027-01-01", "until": "2026-12-31"}, "comes before from", "a later date"),
        ({"when": "daily", "except": 5}, "except is 5", "a text"),
        ({"when": "daily", "except": "wrong.ics"}, "calendar wrong.ics: line 3: DTSTART", "a date"),
        ({"calendar": "2020-01-01"}, "it comes no more", None),
        ([], "nothing says when", "daily 22:00"),
        (["daily", []], "nothing says when", "daily 22:00"),
        (None, "nothing says when", "daily 22:00"),
        (5, "nothing says when", "daily 22:00"),
        (["daily", {"cron": "x"}], "1 field", "minute hour"),
    ],
)
def test_wrong_values(value: object, what: str, expected: str | None) -> None:
    with pytest.raises(UsageError) as raised:
        parse(value)
    assert what in raised.value.message
    if expected is not None:
        assert expected in str(raised.value.hint)


def test_a_calendar_that_cannot_be_read() -> None:
    with pytest.raises(UsageError, match=r"cannot read the calendar none.ics: No such file or directory"):
        parse({"when": "daily", "except": "none.ics"})
    with pytest.raises(ExpressionError, match=r'the calendar "holidays.ics" cannot be read here'):
        parse_when({"when": "daily", "except": "holidays.ics"}, PARIS, NOW, zones=zones.load)


def test_what_is_no_value_at_all() -> None:
    with pytest.raises(UsageError, match="does not say when"):
        parse({"when": object()})


# Lists and joining ---------------------------------------------------------------


def test_lists_of_texts_and_tables() -> None:
    when = parse(["daily 22:00", {"cron": "0 21 * * *", "timezone": "UTC"}, "at boot", "every 5m after start"])
    assert isinstance(when.timed, AnyOf)
    assert shown(when, 4) == ["11-27 22:00", "11-28 22:00", "11-29 22:00", "11-30 22:00"], "21:00 UTC is 22:00 in Paris"
    assert when.occasions == (AtBoot(),)
    assert len(when.again) == 1
    assert when.zone == PARIS
    assert when.text == ["daily 22:00", "0 21 * * *", "at boot", "every 5m after start"]


def test_two_are_joined_by_a_bar() -> None:
    tokyo = zones.load("Asia/Tokyo")
    a, b = parse("daily 22:00"), parse("daily 22:00", tokyo, NOW + DAY)
    both = a | b
    assert both.text == ["daily 22:00", "daily 22:00"]
    assert both.zones == (PARIS, tokyo)
    assert list(islice(both.timed.after(NOW), 4)) == sorted(
        [*islice(a.timed.after(NOW), 2), *islice(b.timed.after(NOW), 2)]
    )
    again = When.from_json(json.loads(json.dumps(both.to_json())), zones.load)
    assert again == both
    assert again.describe() == both.describe()


def test_a_single_trigger_stays_itself() -> None:
    assert isinstance(parse("0 9 * * *").timed, Cron)
    assert isinstance(parse({"when": "daily", "repeat": {"every": "1m", "for": "2m"}}).timed, Repeated)


# The clock on the wall ------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "relative"),
    [
        ("every 5m", True),
        ("in 20m", True),
        (["every 5m", "every 7m"], True),
        ({"every": "5m", "until": "2027-01-01", "except": "2026-12-24"}, True),
        (["every 5m", "at boot", "every 5m after end"], True),
        ("every 5m from 08:00", False),
        ("daily 22:00", False),
        ("at 18:00", False),
        ("hourly", False),
        ("at boot", False),
        ("every 5m after end", False),
        (["every 5m", "daily 22:00"], False),
    ],
)
def test_what_is_relative(value: object, relative: bool) -> None:
    assert parse(value).relative is relative


def test_a_clock_that_was_set_moves_intervals_alone() -> None:
    when = parse(["every 5m", "daily 22:00"]).moved(7 * SECOND).moved(3 * SECOND)
    triggers = [part.trigger for part in when.parts]
    assert triggers[0] == Every(5 * MINUTE, NOW + 10 * SECOND, text="every 5m")
    assert triggers[1] == parse("daily 22:00").timed
    again = When.from_json(json.loads(json.dumps(when.to_json())), zones.load)
    assert [part.trigger for part in again.parts] == triggers
    assert again == when
    assert again.moved(-10 * SECOND) == parse(["every 5m", "daily 22:00"])


def test_the_period_is_the_way_from_one_instant_to_the_next() -> None:
    assert parse("daily 22:00").period(NOW) == DAY
    assert parse("daily 22:00").period(us("2026-10-24T12:00")) == DAY + HOUR
    assert parse(["daily 22:00", "daily 23:00"]).period(NOW) == HOUR
    assert parse("every 90s").period(NOW) == 90 * SECOND
    assert parse("on 2026-12-24 18:00").period(NOW) is None
    assert parse("at boot").period(NOW) is None
    assert parse("every 5m after end").period(NOW) is None


# Stored ------------------------------------------------------------------------


def stored(when: When, load: Callable[[str], Zone] = zones.load) -> When:
    """Give what another process makes of it."""
    return When.from_json(json.loads(json.dumps(when.to_json())), load)


def test_little_is_stored() -> None:
    assert parse("daily 22:00").to_json() == {"readings": [{"when": "daily 22:00", "zone": "Europe/Paris", "now": 0}]}
    assert parse("every 5m").to_json() == {"readings": [{"when": "every 5m", "zone": "Europe/Paris", "now": NOW}]}


def test_files_and_paths_are_stored() -> None:
    when = parse(
        {"when": "daily 12:00", "on_file": "in/*.csv", "except": ["holidays.ics", date(2026, 12, 24)]}, seed="x"
    )
    text = json.dumps(when.to_json())
    assert "SUMMARY:Christmas" in text
    again = stored(when)
    assert again == when
    assert again.occasions == (OnFile("/home/eve/in/*.csv"),)
    assert [each for each in shown(again, 40) if each.startswith("12-2")][:5] == [
        "12-20 12:00", "12-21 12:00", "12-22 12:00", "12-23 12:00", "12-26 12:00"
    ]  # fmt: skip


def test_what_has_passed_is_read_again_all_the_same() -> None:
    when = parse("on 2026-12-24 18:00")
    assert list(stored(when).timed.after(us("2030-01-01"))) == []
    assert stored(when) == when


def test_a_zone_that_has_gone_is_said() -> None:
    def none(name: str) -> Zone:
        raise ExpressionError(f'there is no time zone "{name}"')

    with pytest.raises(ExpressionError, match=r'there is no time zone "Europe/Paris"'):
        stored(parse("daily 22:00"), none)


def texts() -> st.SearchStrategy[str]:
    clock = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
    days = st.lists(st.sampled_from(["mon", "tue", "wed", "sat", "sun"]), min_size=1, max_size=3).map(",".join)
    return st.one_of(
        st.builds("daily {}".format, clock),
        st.builds("weekly {} {}".format, days, clock),
        st.builds("every {} weeks on {} {}".format, st.integers(1, 5), days, clock),
        st.builds("every {} days at {}".format, st.integers(1, 9), clock),
        st.builds("every {} months on {} {}".format, st.integers(1, 5), st.integers(1, 28), clock),
        st.builds("every {}s".format, st.integers(1, 10**6)),
        st.builds("every {}m from {}".format, st.integers(1, 1_000), clock),
        st.builds("every {}m after end".format, st.integers(1, 1_000)),
        st.builds("at {}".format, clock),
        st.builds("in {}m".format, st.integers(1, 10**5)),
        st.builds("{} {} * * *".format, st.integers(0, 59), st.integers(0, 23)),
        st.sampled_from(["hourly", "at boot", "@reboot", "@daily", "on job a failed", "H H * * *"]),
    )


def tables() -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries(
        {"when": texts() | st.lists(texts(), min_size=1, max_size=3)},
        optional={
            "timezone": st.sampled_from(["UTC", "Asia/Tokyo", "America/Sao_Paulo", "+05:30"]),
            "from": st.dates(date(2026, 1, 1), date(2030, 1, 1)),
            "except": st.lists(st.dates(date(2026, 1, 1), date(2030, 1, 1)) | st.just("holidays.ics"), max_size=3),
            "calendar": st.sampled_from(["Mon *-*-* 10:00", "*-*~1 12:00 UTC"]),
            "rrule": st.sampled_from(["FREQ=DAILY;INTERVAL=3", "FREQ=WEEKLY;COUNT=300;BYDAY=MO,FR"]),
            "on_file": st.sampled_from(["in/*", "/srv/x"]),
            "at_boot": st.booleans(),
        },
    )


def ahead(when: When, after: int) -> list[int]:
    return [] if when.timed is None else list(islice(when.timed.after(after), 20))


@pytest.mark.slow
@settings(max_examples=150, derandomize=True)
@given(
    st.lists(texts() | tables(), min_size=1, max_size=3),
    st.sampled_from(["Europe/Paris", "Australia/Lord_Howe", "Pacific/Apia", "UTC"]),
    st.integers(us("2025-01-01"), us("2027-01-01")),
    st.integers(0, 5 * 365),
    st.integers(-3_600 * SECOND, 3_600 * SECOND),
)
def test_what_was_stored_gives_the_same(value: list[object], zone: str, now: int, days: int, by: int) -> None:
    try:
        when = parse(value, zones.load(zone), now, seed="a name")
    except ExpressionError as error:
        assert "leave nothing of it" in error.message
        return
    again = stored(when)
    later = now + days * DAY
    for one, other in ((when, again), (when.moved(by), again.moved(by)), (when.moved(by), stored(when.moved(by)))):
        assert one == other
        assert ahead(one, now) == ahead(other, now)
        assert ahead(one, later) == ahead(other, later)
        assert (one.again, one.occasions, one.text) == (other.again, other.occasions, other.text)
        assert (one.describe(), one.relative, one.zones) == (other.describe(), other.relative, other.zones)
        assert one.period(later) == other.period(later)
    union = sorted({each for part in when.parts if part.timed for each in islice(part.timed.after(now), 20)})
    assert ahead(when, now) == union[:20]


def test_every_key_is_known() -> None:
    assert "when" in KEYS
    assert "repeat" in KEYS
    assert len(KEYS) == len(set(KEYS)) == 15


def test_a_recurrence_without_a_start_counts_from_midnight() -> None:
    when = parse({"rrule": "FREQ=DAILY;BYHOUR=8"})
    assert when.timed is not None
    first = next(when.timed.after(NOW))
    assert when.zone.wall(first) % DAY == 8 * HOUR


def test_days_of_the_week_need_no_word_before_them() -> None:
    for text in ("mon-fri 08:00", "fri 18:00", "sat,sun 10:00, 12:00"):
        assert list(islice(parse(text).timed.after(NOW), 5)) == list(
            islice(parse(f"weekly {text}").timed.after(NOW), 5)
        )  # type: ignore[union-attr]
