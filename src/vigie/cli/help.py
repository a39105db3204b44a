"""``vigie help``: the verbs on one screen; a verb, a word of the glossary or a topic in full."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from vigie.cli.context import Context

__all__ = ["EXAMPLES", "SUMMARY", "add_arguments", "run", "verbs"]

SUMMARY = "explain a verb, a word or a topic"
EXAMPLES = """\
vigie help
vigie help start
vigie help states
vigie help keeper
"""

_GROUPS = (
    ("run", ("start", "run", "map", "schedule", "service", "up", "down", "apply")),
    ("see", ("jobs", "show", "why", "events", "logs", "receive")),
    ("control", ("wait", "stop", "suspend", "resume", "retry", "remove", "limit", "drain", "skip", "queue")),
    ("Vigie itself", ("agent", "doctor", "demo", "help", "completion")),
)
_TOPICS = ("what", "when", "sel", "values", "environment", "states", "reasons", "exit-codes")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the word."""
    parser.add_argument("word", nargs="*", metavar="WORD", help="a verb, a topic, or a word of the glossary")


def run(args: argparse.Namespace, out: Context) -> int:
    """Print the help asked for."""
    if not args.word:
        _overview(out)
        return 0
    return _explain(args.word[0], out)


def verbs() -> Iterator[tuple[str, str]]:
    """Give the verbs that work in this version, each with its summary."""
    from vigie.cli.main import VERBS, load

    for verb in VERBS:
        if verb and not verb.startswith("_"):
            try:
                yield verb, load(verb).SUMMARY
            except ModuleNotFoundError as error:
                if not (error.name or "").startswith("vigie.cli."):
                    raise


def _overview(out: Context) -> None:
    from vigie import __version__

    known = dict(verbs())
    grouped = {verb for _, names in _GROUPS for verb in names}
    groups = [*_GROUPS, ("more", tuple(verb for verb in known if verb not in grouped))]
    out.print(f"Vigie {__version__} runs work for you and watches it.\n")
    out.print(f"  {'vigie':<12}one screen: what runs, what failed, what comes next")
    for title, names in groups:
        if not any(name in known for name in names):
            continue
        out.print(f"\n{title}")
        for name in names:
            if name in known:
                out.print(f"  {'vigie ' + name:<18}{known[name].partition(';')[0].partition(':')[0]}")
    out.print("\nvigie help VERB, or VERB -h, shows options and examples.")
    out.print(f"Topics: {', '.join(_TOPICS)}.")
    out.print("Words are explained too: vigie help keeper.")


def _explain(word: str, out: Context) -> int:
    from vigie.cli.main import VERBS, load, parser_of
    from vigie.cli.words import WORDS

    lower = word.lower().strip()
    # "queue" is a verb and a word: the verb's help, headed by what the word means.
    entry = _entry(lower, WORDS)
    if lower in VERBS and lower and not lower.startswith("_"):
        if entry is not None:
            out.print(f"{entry}\n")
        out.print(parser_of(lower, load(lower)).format_help().rstrip())
        return 0
    if entry is None:
        raise _unknown(word, [*VERBS, *WORDS])
    out.print(entry)
    return 0


def _entry(word: str, words: dict[str, str]) -> str | None:
    """Find a word, its plural or its singular; and states and reasons by their own names."""
    for form in (word, word.replace(" ", "-"), word.removesuffix("s"), f"{word}s"):
        if form in words:
            return f"{form}: {words[form]}" if "\n" not in words[form] else words[form]
    for topic in ("states", "reasons"):
        for line in words[topic].splitlines()[1:]:
            name, _, meaning = line.strip().partition(" ")
            if name == word:
                kind = "a state of a job" if topic == "states" else "a reason why a job failed"
                return f"{name} ({kind}): {meaning.strip()}"
    return None


def _unknown(word: str, known: list[str]) -> Exception:
    from difflib import get_close_matches

    from vigie.errors import NotFound

    close = get_close_matches(word.lower(), [name for name in known if not name.startswith("_")], 3)
    hint = f"did you mean {' or '.join(close)}?" if close else "vigie help lists verbs and topics"
    return NotFound(f"there is no verb and no word {word}", hint)
