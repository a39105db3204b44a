"""Write what docs/reference says of the keys of vigie.toml: the JSON Schema, and the tables of its page."""

from __future__ import annotations

import json
import sys

import generated

from vigie.manifest_keys import FORMS, KINDS, Key, schema
from vigie.policies import FIELDS as POLICIES
from vigie.triggers.when import KEYS as TRIGGERS

SCHEMA = generated.DOCS / "reference" / "vigie.schema.json"


def text() -> str:
    """Give the schema as it is kept."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def body() -> str:
    """Give the tables of the page."""
    schedule = KINDS["schedule"]
    parts = [
        ("## [task.NAME]", KINDS["task"]),
        ("## [schedule.NAME]: what runs", {"task": schedule["task"]}),
        ("## [schedule.NAME]: when", {key: schedule[key] for key in TRIGGERS}),
        ("## [schedule.NAME]: policies", {key: schedule[key] for key in POLICIES}),
        ("## [service.NAME]", KINDS["service"]),
        ("## [queue.NAME]", KINDS["queue"]),
    ]
    note = (
        "Or what it runs itself: it may have all keys of a task. Beside `task`, they win over those of the task; `run`,"
        " `shell`, `script` and `python` cannot stand beside it."
    )
    found = [f"{title}\n\n{_table(keys)}" for title, keys in parts]
    found[1] += f"\n\n{note}"
    return "\n\n".join(found)


def _table(keys: dict[str, Key]) -> str:
    rows = [f"| `{key}` | {_cell(of.text)} | {_cell(FORMS[of.form].expected)} |" for key, of in keys.items()]
    return "\n".join(["| key | what it says | value |", "|---|---|---|", *rows])


def _cell(said: str) -> str:
    return said.replace("|", "\\|").replace("*", "\\*")


def main() -> int:
    """Write both, or with ``--check`` compare; give the exit code."""
    code = generated.main("reference/vigie-toml.md", "toml_schema", body())
    if "--check" not in sys.argv:
        SCHEMA.write_text(text(), encoding="utf-8")
    elif not SCHEMA.exists() or SCHEMA.read_text(encoding="utf-8") != text():
        print(f"{SCHEMA} is not fresh: run python tools/toml_schema.py", file=sys.stderr)
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
