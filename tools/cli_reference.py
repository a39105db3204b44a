"""Write docs/reference/cli.md from the parsers of the verbs, so that it cannot go stale."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import generated

from vigie.cli.help import verbs
from vigie.cli.main import load, parser_of

#: What the exit code of a verb says beyond 0, wrong usage (2), not found (3) and no agent (4).
EXIT = {
    "run": "the work's own; 128+N when signal N ended it; 124 after its timeout; 126 it may not be run; 127 not found; "
    "125 an error of Vigie's own, or nobody knows how it ended; 130 after Ctrl-C",
    "map": "how many items failed, 101 for more than 100; 125 an error of Vigie's own; 130 after Ctrl-C",
    "wait": "0 when all have completed, 1 when one ended otherwise, 124 when the time is up",
    "stop": "1 when processes are left",
    "suspend": "1 when one was refused",
    "resume": "1 when one was refused",
    "retry": "1 when one was refused",
    "remove": "1 when one was refused",
    "agent": "1 when a restore is refused; `status` ends with 4 when no agent runs",
    "doctor": "1 when a check fails",
    "demo": "1 when something of it went wrong",
}


FILTER = "which jobs (FILTER)"


def body() -> str:
    """Give all verbs, in the order of the help."""
    names = [verb for verb, _ in verbs()]
    parts = [_verb("", load(""))]
    parts += [_verb(verb, load(verb)) for verb in names]
    parts.append(_filter())
    return "\n\n".join(parts)


def _verb(verb: str, module: Any) -> str:
    parser = parser_of(verb, module)
    name = f"vigie {verb}".rstrip()
    parts = [f"## {name}", _sentence(module.SUMMARY), _fenced(_usage(parser, getattr(module, "USAGE", None)))]
    notes = getattr(module, "NOTES", "")
    if notes:
        parts.append(_fenced(notes))
    actions = _subparsers(parser)
    if verb == "run":
        parts.append("Options: those of [vigie start](#vigie-start).")
    elif actions:
        parts += [part for text, sub in actions for part in _action(text, sub)]
    else:
        parts += _arguments(parser)
    if verb in EXIT:
        parts.append(f"Exit codes: {EXIT[verb]}.")
    parts.append("Examples:\n\n" + _fenced(module.EXAMPLES, "sh"))
    return "\n\n".join(parts)


def _filter() -> str:
    """Give the options that many verbs share."""
    groups = parser_of("jobs", load("jobs"))._action_groups
    (group,) = [group for group in groups if group.title == FILTER]
    return "## FILTER\n\n" + "\n".join(["| | |", "|---|---|", *map(_row, group._group_actions)])


def _action(text: str, parser: argparse.ArgumentParser) -> list[str]:
    return [f"### {parser.prog}", _sentence(text), _fenced(_usage(parser, None)), *_arguments(parser)]


def _subparsers(parser: argparse.ArgumentParser) -> list[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}
            return [(texts.get(name, ""), sub) for name, sub in action.choices.items()]
    return []


def _usage(parser: argparse.ArgumentParser, given: str | None) -> str:
    """Give the usage in one line; argparse's own differs between versions of Python."""
    if given is not None:
        return given
    words = [parser.prog]
    if any(action.option_strings and action.dest != "help" for action in parser._actions):
        words.append("[options]")
    for action in parser._actions:
        if not action.option_strings:
            name = _value(action)
            words.append({"*": f"[{name}…]", "+": f"{name}…", "?": f"[{name}]"}.get(str(action.nargs), name))
    return " ".join(words)


def _value(action: argparse.Action) -> str:
    shown = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
    return shown if isinstance(shown, str) else " ".join(shown)


def _arguments(parser: argparse.ArgumentParser) -> list[str]:
    parts = []
    for group in parser._action_groups:
        rows = [_row(action) for action in group._group_actions if action.dest != "help"]
        if group.title == FILTER:
            parts.append("And those of [FILTER](#filter).")
        elif rows:
            standard = group.title in ("positional arguments", "options", "optional arguments")
            title = "" if standard else f"*{group.title}*\n\n"
            parts.append(title + "\n".join(["| | |", "|---|---|", *rows]))
    return parts


def _row(action: argparse.Action) -> str:
    value = "" if action.option_strings and action.nargs == 0 else f" {_value(action)}"
    flags = (", ".join(action.option_strings) + value).strip()
    # A table's cells end at a bar.
    shown, text = (part.replace("|", "\\|") for part in (flags, action.help or ""))
    return f"| `{shown}` | {text} |"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("." if text else "")


def _fenced(text: str, language: str = "text") -> str:
    return f"```{language}\n{text.strip(chr(10))}\n```"


if __name__ == "__main__":
    sys.exit(generated.main("reference/cli.md", "cli_reference", body()))
