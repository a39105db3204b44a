"""What is read in a vigie.toml: its tables, its names and paths, and what is said of one that is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vigie import making_when, tomltext, zones
from vigie.declaration import JOB_KEYS, WHAT_KEYS
from vigie.errors import UsageError
from vigie.making import Maker
from vigie.making_rows import canonical, task_row
from vigie.manifest import Manifest, read_manifest
from vigie.manifest_keys import FORMS, KINDS, schema
from vigie.policies import FIELDS
from vigie.store.rows import digest
from vigie.triggers.when import KEYS, When, parse_when

NOW = 1_772_000_000_000_000  # 2026-02-25 06:13:20 UTC


def read(text: str, owner: str = "/srv/shop/vigie.toml", files: dict[str, bytes] | None = None) -> Manifest:
    def contents(path: str) -> bytes:
        if files is None or path not in files:
            raise FileNotFoundError(2, "No such file or directory")
        return files[path]

    return read_manifest(text.encode(), owner, read=contents)


def refused(text: str, **how: Any) -> list[str]:
    """Give what is said of a text, line by line, of all that reading and making find."""
    try:
        found = read_manifest(text.encode(), "/vigie.toml", refuse=False, **how)
        maker = Maker(found, NOW)
        for name, table in found.tasks.items():
            maker.task(name, table)
        for name, table in found.schedules.items():
            maker.schedule(name, table, None, same_when=False)
        found.refuse()
    except UsageError as error:
        return [line for line in error.message.splitlines() if not line.startswith(" ")]
    raise AssertionError("it was taken")


# Keys -----------------------------------------------------------------------------


def test_the_tables_of_keys_are_those_that_the_readers_of_values_know() -> None:
    work = {*JOB_KEYS, *WHAT_KEYS}
    assert set(KINDS["task"]) == work
    assert set(KINDS["schedule"]) == {*work, *KEYS, *FIELDS, "task"}


@pytest.mark.slow
def test_the_schema_for_editors_is_fresh() -> None:
    tool = Path(__file__).parent.parent / "tools" / "toml_schema.py"
    done = subprocess.run([sys.executable, tool, "--check"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def valid(value: Any, by: dict[str, Any]) -> bool:
    """Check a value by as much of JSON Schema as ours uses."""
    kinds: dict[str, Any] = {
        "string": str, "number": (int, float), "integer": int, "boolean": bool, "array": list, "object": dict,
    }  # fmt: skip
    if "anyOf" in by and not any(valid(value, each) for each in by["anyOf"]):
        return False
    if "enum" in by and value not in by["enum"]:
        return False
    if "type" in by:
        names = by["type"] if isinstance(by["type"], list) else [by["type"]]
        if not any(isinstance(value, kinds[name]) and (name == "boolean") == isinstance(value, bool) for name in names):
            return False
    if isinstance(value, str) and "pattern" in by:
        import re

        return re.search(by["pattern"], value) is not None
    if isinstance(value, list):
        return len(value) >= by.get("minItems", 0) and all(valid(each, by.get("items", {})) for each in value)
    if isinstance(value, dict):
        known, other = by.get("properties", {}), by.get("additionalProperties", {})
        if any(key not in value for key in by.get("required", ())):
            return False
        return all(
            valid(each, known[key]) if key in known else other is not False and valid(each, other)
            for key, each in value.items()
        )
    return isinstance(value, bool) or not isinstance(value, int | float) or value >= by.get("minimum", value)


SAMPLES: list[Any] = [
    "a", "a b", ["a"], ["a", "b"], [], ["a", 1], 1, 0, -1, 1.5, True, False, {}, {"a": 1}, {"a": "b"}, {"a": 0},
    {"a": []}, "skip", "queue_all=3", "queue-all=0", "all=2", "none", "fail", {"every": "1m", "for": "2m"},
    {"up_to": "5m"}, [{}], [[1]], "a=1", ["a=2"],
]  # fmt: skip
#: What a reader takes that the schema leaves to it: texts that it reads itself, and what an editor need not offer.
LEFT = {("overlap", str), ("catch_up", str), ("repeat", dict), ("jitter", dict), ("counts", list)}


@pytest.mark.parametrize("form", FORMS)
def test_schema_and_reader_agree_on_what_a_value_looks_like(form: str) -> None:
    for value in SAMPLES:
        fits, said = FORMS[form].fits(value), valid(value, FORMS[form].schema)
        if (form, type(value)) not in LEFT:
            assert fits == said, (form, value)
        assert fits or not said, (form, value)


def test_the_schema_takes_a_whole_file_and_no_unknown_key() -> None:
    whole = {"project": "shop", "task": {"a": {"run": ["b"]}}, "schedule": {"c": {"task": "a", "when": "daily"}}}
    assert valid(whole, schema())
    assert not valid({**whole, "tusk": {}}, schema())
    assert not valid({"task": {"a": {"rum": ["b"]}}}, schema())


# Tables ---------------------------------------------------------------------------


def test_names_paths_and_zones_are_whole() -> None:
    found = read(
        """
        project = "shop"
        [task.backup]
        script = "bin/backup.py"
        cwd = "data"
        env_file = ".env"
        interpreter = "venv/bin/python"
        queue = "slow"
        timeout = "1h"
        [schedule.nightly]
        task = "backup"
        when = "daily 02:00"
        timezone = "Europe/Paris"
        timeout = "2h"
        from = 2026-12-24
        until = 2026-12-24T18:00:00
        except = [2026-12-25, "off.ics"]
        [schedule."a.b"]
        run = "true"
        every = 5
        queue = "elsewhere"
        timezone = "UTC"
        [queue.slow]
        slots = 1
        """,
        files={"/srv/shop/.env": b"A=1", "/srv/shop/off.ics": b"B"},
    )
    assert found.tasks["shop.backup"] == {
        "script": ["/srv/shop/bin/backup.py"], "cwd": "/srv/shop/data", "env_file": ["/srv/shop/.env"],
        "interpreter": "/srv/shop/venv/bin/python", "queue": "shop.slow", "timeout": "1h",
        "files": {"/srv/shop/.env": digest_of(b"A=1")},
    }  # fmt: skip
    nightly = found.schedules["shop.nightly"]
    assert {key: nightly[key] for key in ("task", "timeout", "from", "until", "except", "script")} == {
        "task": "shop.backup", "timeout": "2h", "from": "2026-12-24", "until": "2026-12-24T18:00:00",
        "except": ["2026-12-25", "off.ics"], "script": ["/srv/shop/bin/backup.py"],
    }  # fmt: skip
    assert nightly["files"] == {"/srv/shop/.env": digest_of(b"A=1"), "off.ics": digest_of(b"B")}
    assert found.schedules["shop.a.b"]["queue"] == "elsewhere"
    assert found.queues == {"shop.slow": {"slots": 1}}
    json.loads(canonical(nightly))


def digest_of(data: bytes) -> str:
    from hashlib import blake2b

    return blake2b(data, digest_size=16).hexdigest()


def test_without_a_project_names_stand_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    found = read('[schedule.a]\nrun = ["b"]\nwhen = "daily"\n')
    assert (found.project, found.full("a"), found.plain("a")) == (None, "a", "a")
    assert found.schedules["a"]["timezone"] == "Asia/Tokyo"  # what it means is written down


def test_an_empty_file_declares_nothing() -> None:
    for text in ("", "# nothing\n", "\ufeff", 'project = "a"'):
        found = read(text)
        assert (found.tasks, found.schedules, found.queues) == ({}, {}, {})


# What is wrong --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[task.a]\nrun = [", "2: invalid value"),
        ("[task.a]\nrun = ['b']\n[task.a]\n", "3: cannot declare ('task', 'a') twice at character 8"),
        ('project = "a.b"', "1: project: 'a.b' is no name of a project"),
        ("project = 7", "1: project: 7 is no name of a project"),
        ("\n[tusk.a]\n", "2: tusk: there is no [tusk]"),
        ("task = 1", "1: task: it is no table; write [task.NAME]"),
        ("[[task]]\nrun = ['b']", "1: task: it is no table; write [task.NAME]"),
        ("task.a = 1", "1: task.a: a is no table"),
        ("[task.1]\nrun = ['b']", "1: task.1: '1' cannot be a name: digits are ids, and 'last' is the newest job"),
        ("[task.'a/b']\nrun = ['b']", "1: task.\"a/b\": 'a/b' cannot be a name: it reads as a path"),
        ("[task.'']\nrun = ['b']", "1: task.\"\": '' must be 1 to 200 printable characters"),
        ("[queue.default]\nslots = 1", "1: queue.default: queue default is there in every home"),
        ("[task.a]\nrum = ['b']", "2: task.a.rum: a task has no key 'rum'"),
        ("[schedule.a.b]\nrun = ['c']", "1: schedule.a.b: a schedule has no key 'b'"),
        ("[task.a]\nrun = 5", '2: task.a.run: 5 is not a list of words, such as ["rsync", "-a", "x", "y"]'),
        ("[task.a]\nrun = ['b']\nshell = 'c'", "3: task.a.shell: it says run and shell, and can run one of them"),
        ("[task.a]\n", "1: task.a: it says nothing to run: give one of run, shell, script, python"),
        ("[task.a]\nrun = ['b']\nfresh = 'yes'", "3: task.a.fresh: 'yes' is not true or false"),
        ("[task.a]\nrun = ['b']\nretries = -1", "3: task.a.retries: -1 is not a whole number, 0 or more"),
        (
            "[task.a]\nrun = ['b']\ntimeout = inf",
            '3: task.a.timeout: inf is not a duration, such as "90s", "5m" or "1h30m"',
        ),
        ("[task.a]\nrun = ['b']\ntimeout = '1parsec'", "3: task.a.timeout: '1parsec' is not a duration"),
        ("[task.a]\nrun = ['b']\ncwd = '/nowhere'", "3: task.a.cwd: /nowhere does not exist"),
        (
            "[task.a]\nrun = ['b']\nenv_file = 'no.env'",
            "3: task.a.env_file: cannot read /no.env: No such file or directory",
        ),
        ("[task.a]\nscript = 'no.py'", "2: task.a.script: there is no script /no.py"),
        ("[task.a]\npython = 'a.b'", "2: task.a.python: 'a.b' is not module:function"),
        ("[schedule.a]\ntask = 'b'\nwhen = 'daily'", "2: schedule.a.task: the file has no task 'b'"),
        ("[schedule.a]\nrun = ['b']\ntask = 'b'", "2: schedule.a.run: it says task and run, and can run one of them"),
        ("[schedule.a]\nrun = ['b']\nwhen = '0 25 * * *'", '3: schedule.a.when: hour 25 is not in 0..23: "0 25 * * *"'),
        (
            "[schedule.a]\nrun = ['b']\nwhen = 'daily'\ntimezone = 'Europe/Pari'",
            '4: schedule.a.timezone: there is no time zone "Europe/Pari"',
        ),
        ("[schedule.a]\nrun = ['b']\n", "1: schedule.a: the table does not say when"),
        (
            "[schedule.a]\nrun = ['b']\nwhen = 'daily'\noverlap = 'skop'",
            "4: schedule.a.overlap: 'skop' is none of skip, queue-one, queue-all[=N], parallel, replace",
        ),
        ("[schedule.a]\nrun = ['b']\nwhen = 'daily'\njitter = 'x'", "4: schedule.a.jitter: 'x' is not a duration"),
        (
            "[schedule.a]\nrun = ['b']\nwhen = 'daily'\ncatch_up = 'all'\noverlap = 'queue_all'\nhistory = 0",
            "6: schedule.a.history: 0 is not a whole number above zero",
        ),
        (
            "[schedule.a]\nrun = ['b']\ncron = '0 0 30 2 *'",
            '3: schedule.a.cron: it never fires: no day is the 30th of February: "0 0 30 2 *"',
        ),
        ("a = 1_" + "0" * 5000, "1: "),
        ("a = " + "[" * 5000, "1: brackets are nested too deeply"),
    ],
)
def test_each_error_has_its_line_and_key(text: str, said: str) -> None:
    (found,) = refused(text)
    assert found.startswith(f"vigie.toml:{said}")


def test_all_that_is_wrong_is_said_at_once_and_what_follows_from_it_is_not() -> None:
    found = refused(
        """project = "x"
[task.a]
run = 5
[schedule.b]
task = "a"
when = "daily 25:00"
[schedule.c]
run = ["true"]
when = "daily 25:00"
lateness = "x"
[schedule.d]
run = ["true"]
when = "daily"
[check.web]
every = "1d"
"""
    )
    assert [line.split(" ")[:2] for line in found] == [
        ["vigie.toml:3:", "task.a.run:"],
        ["vigie.toml:9:", "schedule.c.when:"],
        ["vigie.toml:10:", "schedule.c.lateness:"],
        ["vigie.toml:14:", "check:"],
    ]
    assert found[-1].endswith("does not handle [check] yet")


def test_a_hint_says_what_was_perhaps_meant() -> None:
    with pytest.raises(UsageError) as error:
        read("[schedule.a.b]\nrun = ['c']")
    assert error.value.hint == 'a name with a dot stands in quotes: [schedule."a.b"]'
    with pytest.raises(UsageError) as error:
        read("[task.a]\nrun = ['b']\nretires = 3\n")
    assert error.value.hint == "did you mean retries?"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[task.a]\nrun = ['\xff']", "vigie.toml:2: byte 0xff is no UTF-8"),
        ("project = 'a'".encode("utf-16"), "vigie.toml:1: it is UTF-16, and TOML is UTF-8"),
        (b"\0", "vigie.toml:1: "),
        (b"a\r\n\r\n[", "vigie.toml:1: "),
        (b"project = 'a'\n\xed\xa0\x80", "vigie.toml:2: byte 0xed is no UTF-8"),
    ],
)
def test_bytes_that_are_no_text(data: bytes, said: str) -> None:
    with pytest.raises(UsageError) as error:
        read_manifest(data, "/vigie.toml")
    assert error.value.message.startswith(said)


def test_a_file_has_a_largest_size() -> None:
    with patch("vigie.manifest.LARGEST", 10), pytest.raises(UsageError, match="are the most"):
        read("# 12345678901")


# The text -------------------------------------------------------------------------

BARE = st.text("abcXYZ019_-", min_size=1, max_size=4)
PLAIN = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\'), max_size=8).map(
        lambda t: f'"{t}"'
    ),
    st.booleans().map(lambda b: str(b).lower()),
    st.integers(0, 10**17).map(str),
    st.lists(BARE.map(lambda t: f'"{t}"'), max_size=3).map(lambda each: f"[{', '.join(each)}]"),
)
#: What the quicker way does not read, or what is no TOML at all.
ODD = st.sampled_from(
    ['"\\n"', "'x'", '"""a\n[b.c]\n"""', "1.5", "-1", "01", "{ a = 1 }", "[1]", '["a",]', "2026-01-01", '"a" # b',
     '"a\tb"', "["]
)  # fmt: skip
LINES = st.one_of(
    st.tuples(BARE, PLAIN).map(" = ".join),
    st.tuples(BARE, st.one_of(PLAIN, ODD)).map("=".join),
    st.tuples(BARE, BARE).map(lambda pair: f"[{pair[0]}.{pair[1]}]"),
    st.sampled_from(["", "# a [b.c]", "  ", "[a]", "[a.b.c]", '[a."b"]', "a.b = 1", "# \x01", "\t# x", "[a.b] # c"]),
)


@settings(derandomize=True, max_examples=400, deadline=None)
@given(st.lists(LINES, max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_the_quicker_way_reads_what_the_standard_library_reads(lines: list[str], end: str) -> None:
    text = end.join(lines)
    try:
        expected: Any = tomllib.loads(text)
    except ValueError:
        expected = None
    with patch("vigie.tomltext.LARGE", 0):
        try:
            found: Any = tomltext.parse(text)
        except tomltext.TomlError as error:
            assert 1 <= error.line <= text.count("\n") + 1
            found = None
    assert found == expected


def test_the_quicker_way_is_taken_for_plain_tables() -> None:
    text = 'project = "a"\n# é\n\n[task.b]\nrun = ["c", "d"]\nretries = 3\nfresh = true\r\n[task.e]\nrun = []\n'
    assert tomltext._plain_tables(text) == tomllib.loads(text)


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("a = 1\nb = 2", ("b",), 2),
        ("[a]\n\n[a.b]\nc = 1", ("a", "b", "c"), 4),
        ('[a."b.c"]\n"d e" = 1', ("a", "b.c", "d e"), 2),
        ("[a]\nb.c = 1\nd = 2", ("a", "b", "c"), 2),
        ("x = '''\n[a]\nb = 1\n'''\n[a]\nb = 2", ("a", "b"), 6),
        ('x = """\\"""\n[a]\n"""\n[a]\nb = 2', ("a", "b"), 5),
        ("x = [ # [a]\n 'b = 1',\n]\n[a]\nb = 2", ("a", "b"), 5),
        ("[a] # [b]\nc = '#' # d = 1\nd = 2", ("a", "d"), 3),
        ("a = { b = 1,  c = 2 }\nd = 3", ("a", "c"), 1),
        ("[ a . b ]\nc = 1", ("a", "b", "c"), 2),
        ("a = 1", ("z",), 1),
        ("\n\n[a]", ("a", "z"), 3),
    ],
)
def test_where_a_key_stands(text: str, path: tuple[str, ...], line: int) -> None:
    tomllib.loads(text)
    assert tomltext.Places(text).line(*path) == line


# Making ---------------------------------------------------------------------------


def test_schedules_that_share_options_are_made_as_if_alone(tmp_path: Any) -> None:
    (tmp_path / "s.py").write_text("")
    text = "".join(
        f"[schedule.{name}]\n{work}\nwhen = 'daily {hour}:00'\ntimezone = 'UTC'\ntimeout = '1m'\ntags = ['t']\n"
        for hour, (name, work) in enumerate(
            [("a", "run = ['x', 'y z']"), ("b", "run = 'x'"), ("c", "shell = 'x | y'"), ("d", "script = ['s.py', '1']"),
             ("e", "python = 'm:f'\nargs = [1, { a = 2 }]"), ("f", "run = ['x', 3]")], 1)
    )  # fmt: skip
    found = read_manifest(text.encode(), str(tmp_path / "vigie.toml"))
    together = Maker(found, NOW)
    for name, table in [*found.schedules.items(), *found.schedules.items()]:
        alone = Maker(found, NOW)
        one = alone.schedule(name, table, None, same_when=False)
        many = together.schedule(name, table, None, same_when=False)
        assert one is not None
        assert one == many
        assert alone.contexts[one.context] == together.contexts[one.context]
        assert one.task == digest(*together.tasks[one.task]).hex()
    assert found.noted == 0


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        *[(text, True) for text in (
            "daily 02:00", "Daily 02:00,03:30:10", "weekdays 08:00", "weekends", "weekly mon,thu 08:00", "hourly :15",
            "monthly last fri 18:00", "monthly 1,15", "yearly dec 24 18:00", "daily 08:00 every 10m for 2h",
            "*/5 * * * *", "0 9 * * 1-5", "15 10 L * *", "0 0 29 2 *", "* * * * * *",
        )],
        *[(text, False) for text in (
            "every 5m", "every 2 weeks on mon 08:00", "in 5m", "at 18:00", "on 2027-01-01 08:00", "@daily", "@reboot",
            "H 2 * * *", "0 2 * * thu", "at boot", " daily 02:00", "every monday 08:00", "every 5m after end",
        )],
    ],
)  # fmt: skip
def test_what_means_the_same_whenever_it_is_read_is_stored_as_the_grammar_of_when_stores_it(
    text: str, plain: bool
) -> None:
    zone = zones.load("Europe/Paris")
    assert (making_when._plainly(text, zone, NOW) is not None) == plain
    found = making_when.read({"when": text, "timezone": "Europe/Paris"}, NOW, str, str, "name")
    expected = making_when.Read.of(parse_when({"when": text}, zone, NOW, zones=zones.load, seed="name"), NOW)
    assert (found.fields, found.first, found.again) == (expected.fields, expected.first, expected.again)
    back = When.from_json(json.loads(found.fields["triggers"]), zones.load)
    if found.timed is not None and back.timed is not None:
        assert list(islice(found.timed.after(NOW), 20)) == list(islice(back.timed.after(NOW), 20))


def test_what_is_hashed_by_name_is_made_for_each_name() -> None:
    text = "".join(f"[schedule.{name}]\nrun = ['x']\ncron = 'H H * * *'\ntimezone = 'UTC'\n" for name in "abcdef")
    found = read(text, owner="/vigie.toml")
    maker = Maker(found, NOW)
    made = [maker.schedule(name, table, None, same_when=False) for name, table in found.schedules.items()]
    assert len({each.next for each in made if each is not None}) > 1


def test_a_task_has_the_row_that_a_submit_would_give_it() -> None:
    row = task_row({"kind": "command", "argv": ["a", "\udcff"], "label": "a \udcff", "timeout": 5})
    assert row[:6] == ("command", b"a\0\xff\0", None, None, "a ?", 5)
