"""What may stand in ``vigie.toml``: its tables, their keys, and what each key takes.

The reader checks a file with these tables, and the JSON Schema for editors is made of
them, so that neither knows a key that the other does not. A form says what a value
looks like; whether it makes sense (a queue that there is, an hour below 24) is for
those to say who use it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from vigie.policies import OVERLAPS
from vigie.supervision.plan import MODES, RESTARTS

__all__ = ["FORMS", "KINDS", "LATER", "PROJECT", "Form", "Key", "schema"]

Schema = dict[str, Any]

#: What the name of a project looks like.
PROJECT = "[A-Za-z0-9][A-Za-z0-9_-]{0,99}"


class Form(NamedTuple):
    """What a value looks like: in words, for a reader, and for an editor."""

    expected: str
    fits: Callable[[Any], bool]
    schema: Schema


class Key(NamedTuple):
    """One key: the name of its form, and what it says."""

    form: str
    text: str


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _all(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and bool(value) and all(map(fits, value))


def _one_of(*fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: any(each(value) for each in fits)


def _table(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(fits, value.values()))


def _dict(value: Any) -> bool:
    return isinstance(value, dict)


def _word(value: Any) -> bool:
    return isinstance(value, str) or _number(value)


def _length(value: Any) -> bool:
    return isinstance(value, str) or (_number(value) and value >= 0)


_TEXT: Schema = {"type": "string"}
_LENGTH: Schema = {"type": ["string", "number"], "minimum": 0}
_TEXTS: Schema = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]}
_TABLE: Schema = {"type": "object"}
_MANY: Schema = {
    "anyOf": [
        _TEXT,
        _TABLE,
        {"type": "array", "items": {"anyOf": [_TEXT, _TABLE]}, "minItems": 1},
    ]
}


def _worded(words: tuple[str, ...], numbered: str) -> Schema:
    known = [*words, *(word.replace("_", "-") for word in words if "_" in word)]
    return {
        "anyOf": [
            {"enum": known},
            {"type": "string", "pattern": f"^{numbered.replace('_', '[_-]')}=[1-9][0-9]*$"},
        ]
    }


FORMS: dict[str, Form] = {
    "text": Form("a text", _text, _TEXT),
    "texts": Form("a text or a list of texts", _one_of(_text, _all(_text)), _TEXTS),
    "words": Form(
        'a list of words, such as ["rsync", "-a", "x", "y"]',
        _one_of(_text, _all(_word)),
        {"anyOf": [_TEXT, {"type": "array", "items": {"type": ["string", "number"]}, "minItems": 1}]},
    ),
    "flag": Form("true or false", lambda value: isinstance(value, bool), {"type": "boolean"}),
    "whole": Form("a whole number", _whole, {"type": "integer"}),
    "count": Form("a whole number above zero", lambda v: _whole(v) and v > 0, {"type": "integer", "minimum": 1}),
    "tries": Form("a whole number, 0 or more", lambda v: _whole(v) and v >= 0, {"type": "integer", "minimum": 0}),
    "duration": Form('a duration, such as "90s", "5m" or "1h30m"', _length, _LENGTH),
    "size": Form('a size, such as "10 GiB" or "500 MB"', _one_of(_text, _whole), {"type": ["string", "integer"]}),
    "rate": Form('a rate, such as "10/s" or "600/m"', _word, {"type": ["string", "number"]}),
    "json": Form(
        "a list of arguments, or a table of named ones",
        _one_of(_dict, lambda value: isinstance(value, list)),
        {"type": ["array", "object"]},
    ),
    "env": Form(
        'a table of texts or whole numbers, or a list such as ["TOKEN", "LANG=C"]',
        _one_of(_table(_one_of(_text, _whole)), _all(_text)),
        {
            "anyOf": [
                {"type": "object", "additionalProperties": {"type": ["string", "integer"]}},
                {"type": "array", "items": _TEXT, "minItems": 1},
            ]
        },
    ),
    "counts": Form(
        "a table of keys with whole numbers, such as { database = 2 }",
        _one_of(_table(lambda value: _whole(value) and value > 0), _all(_text)),
        {
            "anyOf": [
                {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1}},
                {"type": "array", "items": {"type": "string", "pattern": "^.+=[1-9][0-9]*$"}, "minItems": 1},
            ]
        },
    ),
    "on_lost": Form('"fail" or "rerun"', lambda value: value in ("fail", "rerun"), {"enum": ["fail", "rerun"]}),
    "when": Form("a text, a table, or a list of these", _one_of(_text, _dict, _all(_one_of(_text, _dict))), _MANY),
    "moment": Form("a date or a date with a time", _text, _TEXT),
    "table": Form("a table", _dict, _TABLE),
    "repeat": Form(
        'a table such as { every = "10m", for = "2h" }',
        _dict,
        {
            "type": "object",
            "properties": {"every": _LENGTH, "for": _LENGTH},
            "required": ["every", "for"],
            "additionalProperties": False,
        },
    ),
    "overlap": Form(f"one of {', '.join(OVERLAPS)}, or queue_all=N", _text, _worded(OVERLAPS, "queue_all")),
    "catch_up": Form(
        "none, latest, all, or all=N", _one_of(_text), _worded(("none", "latest", "all"), "all")
    ),
    "probe": Form(
        'a text such as "notify" or "2s", or a table such as { port = 8000 }',
        _one_of(_text, _dict, _number),
        {"anyOf": [_TEXT, _TABLE, {"type": "number"}]},
    ),
    "start": Form(f"one of {', '.join(MODES)}", lambda value: value in MODES, {"enum": [*MODES]}),
    "restart": Form(f"one of {', '.join(RESTARTS)}", lambda value: value in RESTARTS, {"enum": [*RESTARTS]}),
    "backoff": Form("a duration, or a table", _one_of(_length, _dict), {"anyOf": [_LENGTH, _TABLE]}),
    "affinity": Form(
        "a text, or a list of numbers", _one_of(_text, _all(_whole)),
        {"anyOf": [_TEXT, {"type": "array", "items": {"type": "integer"}, "minItems": 1}]},
    ),
    "logs": Form(
        "a size, or a table", _one_of(_text, _whole, _dict), {"anyOf": [{"type": ["string", "integer"]}, _TABLE]}
    ),
    "jitter": Form(
        'a duration, "5m random", or { up_to = "5m", random = true }',
        _one_of(_length, _dict),
        {
            "anyOf": [
                _LENGTH,
                {
                    "type": "object",
                    "properties": {"up_to": _LENGTH, "random": {"type": "boolean"}},
                    "required": ["up_to"],
                    "additionalProperties": False,
                },
            ]
        },
    ),
}  # fmt: skip

#: What runs, and how: of a task, and of a schedule that names none.
_WORK: dict[str, Key] = {
    "run": Key("words", "the command: its words, through no shell"),
    "shell": Key("text", "a line for /bin/sh"),
    "script": Key("words", "a script by its extension (.py, .sh, .ps1), with its arguments"),
    "python": Key("text", "a Python function: package.module:function"),
    "args": Key("json", "the arguments of that function"),
    "interpreter": Key("text", "the interpreter of scripts and functions"),
    "cwd": Key("text", "the directory in which it runs, from the file's own; default that"),
    "env": Key("env", "variables; a list may copy some by name from where the file is applied"),
    "env_file": Key("texts", "dotenv files, from the file's directory; read when the file is applied"),
    "fresh": Key("flag", "give a function a process of its own"),
    "timeout": Key("duration", "end it after this long"),
    "retries": Key("tries", "try again this often after a failure"),
    "backoff": Key("duration", "wait this long before the first retry; then ever longer"),
    "grace": Key("duration", "between SIGTERM and SIGKILL when it is ended"),
    "max_output": Key("size", "keep this much output of each stream"),
    "on_lost": Key("on_lost", "what becomes of it when a crash hid how it ended"),
    "priority": Key("whole", "higher goes first"),
    "queue": Key("text", "the queue in which it waits for a slot"),
    "tags": Key("texts", "what to filter its jobs by"),
    "concurrency": Key("counts", "keys that jobs share, and how many at once may hold each"),
}
_TRIGGERS: dict[str, Key] = {
    "when": Key("when", 'a plain phrase ("daily 02:00") or a cron line; a list of several'),
    "cron": Key("texts", "a cron line of 5 fields, or 6 with seconds first"),
    "calendar": Key("texts", 'a systemd calendar expression: "Mon..Fri *-*-* 08:00"'),
    "rrule": Key("texts", 'a recurrence rule of RFC 5545: "FREQ=DAILY;BYHOUR=8"'),
    "every": Key("duration", "an interval"),
    "on_file": Key("when", "a file appears: a pattern, from the file's directory, or { path, what, for }"),
    "on_event": Key("when", "a job ended, or a record that matches"),
    "on_idle": Key("when", "the machine has been idle for so long"),
    "at_boot": Key("flag", "once after the machine has started"),
    "at_login": Key("flag", "at the first session of the user"),
    "from": Key("moment", "nothing comes before this time"),
    "until": Key("moment", "nothing comes after this time"),
    "except": Key("texts", "dates, ranges of dates, and .ics files of days, that are left out"),
    "timezone": Key("text", "the zone of all times: Europe/Paris, UTC, +02:00; default this machine's"),
    "repeat": Key("repeat", "repeat each instant every so often, for so long"),
}
_POLICIES: dict[str, Key] = {
    "overlap": Key("overlap", "what becomes of a run while an earlier one goes on"),
    "catch_up": Key("catch_up", "which of the instants run that were missed while nobody was there"),
    "lateness": Key("duration", "never start later than this"),
    "jitter": Key("jitter", "spread the starts over so long"),
    "if": Key("when", "what must hold when a run is to start: power, network, load < 1.5, …"),
    "if_wait": Key("duration", "how long to wait for that"),
    "blackout": Key("texts", "windows in which nothing starts: 22:00-06:00, sat,sun, mon-fri 09:00-17:00"),
    "delete_after": Key("duration", "remove the schedule so long after its end"),
    "max_runs": Key("count", "so many runs, and it is done"),
    "history": Key("count", "records kept"),
}

#: How a service is kept.
_KEPT: dict[str, Key] = {
    "instances": Key("count", "so many of it: NAME@1, NAME@2 …"),
    "start": Key("start", "when it starts: automatic (default), manual, disabled"),
    "after": Key("texts", "services that it waits for, if they are wanted"),
    "requires": Key("texts", "services that are started with it, and without which it is degraded"),
    "wants": Key("texts", "services that are started with it"),
    "ready": Key("probe", "how it is known to be ready; default: it runs"),
    "alive": Key("probe", "what must hold while it runs, or it is restarted"),
    "watchdog": Key("duration", "it must say WATCHDOG=1 so often"),
    "restart": Key("restart", "always (default), on-failure, never"),
    "exits": Key("table", "what exit codes and signals mean: restart, ignore, fail, hold"),
    "backoff": Key("backoff", "the first wait, or { first, most, reset }; default 0.1 s, a minute, 10 s"),
    "give_up": Key("count", "it has failed for good after so many failures in a row; default never"),
    "essential": Key("flag", "vigie up ends with 1 when it fails for good"),
    "stop": Key("when", 'a grace ("10s"), or signals with waits: ["INT 5s", "TERM 10s"]'),
    "reload": Key("words", 'a signal ("HUP") or a command'),
    "before_start": Key("words", "a command that must succeed before each life"),
    "after_start": Key("words", "a command to run when it has become ready"),
    "before_stop": Key("words", "a command to run before it is told to end"),
    "after_exit": Key("words", "a command to run after each life"),
    "on_failure": Key("words", "a command to run when a life ends badly"),
    "listen": Key("when", "sockets kept open for it: tcp://127.0.0.1:8000, unix:///run/x.sock"),
    "on_connection": Key("flag", "it is started by the first connection"),
    "fd_store": Key("tries", "descriptors that it may give to keep over restarts"),
    "forking": Key("flag", "its first process ends once it runs, as daemons of old do"),
    "pid_file": Key("text", "where such a daemon writes who goes on"),
    "user": Key("text", "run as this user (root only)"),
    "group": Key("text", "and this group"),
    "limits": Key("table", "memory, cpu, cpu_time, files, processes"),
    "nice": Key("whole", "-20 to 19"),
    "affinity": Key("affinity", 'processors it may use: "0-1,3" or [0, 1, 3]'),
    "umask": Key("text", 'its mask: "022"'),
    "logs": Key("logs", "how much of its output is kept: a size, or { part, total, age, compress }"),
    "history": Key("count", "lives kept; default 20"),
}
_OF_SERVICES = ("run", "shell", "script", "python", "args", "interpreter", "cwd", "env", "env_file", "priority", "tags")

#: The tables that a file may have, with their keys.
KINDS: dict[str, dict[str, Key]] = {
    "task": _WORK,
    "schedule": {"task": Key("text", "the task of this file that runs"), **_TRIGGERS, **_POLICIES, **_WORK},
    "service": {
        "task": Key("text", "the task of this file that runs"),
        **_KEPT,
        **{key: _WORK[key] for key in _OF_SERVICES},
    },
    "queue": {
        "slots": Key("count", "so many jobs at once"),
        "rate": Key("rate", "so many starts in a time"),
    },
}
#: Tables that a later Vigie reads.
LATER = ("check", "channel", "alert")


def schema() -> Schema:
    """Give the JSON Schema of a file, by which an editor completes and checks it."""
    tables = {
        kind: {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {key: {"description": of.text, **FORMS[of.form].schema} for key, of in keys.items()},
                "additionalProperties": False,
            },
        }
        for kind, keys in KINDS.items()
    }
    project = {
        "description": "goes before all names of the file: shop.nightly",
        "type": "string",
        "pattern": f"^{PROJECT}$",
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "vigie.toml",
        "type": "object",
        "properties": {"project": project, **tables},
        "additionalProperties": False,
    }
