"""``vigie doctor``: what this machine gives Vigie, and what each lack means."""

from __future__ import annotations

from vigie.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from vigie.cli.context import Context
    from vigie.config import Home
    from vigie.doctor.check import Check

SUMMARY = "explain what this machine gives Vigie and what it lacks; with what to do"
EXAMPLES = """\
vigie doctor            # all checks; exit code 1 if something fails
vigie doctor --deep     # read and check every page of the store too
vigie doctor --json     # for a monitor
vigie doctor --torture 30             # does Vigie keep its promises here? about 20 s
vigie doctor --torture 30 --seed 7    # the same choices as another time
"""
NOTES = """\
--torture starts jobs of every kind, about 50 a second, in a home of its own in
TMPDIR, and kills -9 the agent, the keeper, a worker, the submitting client or all
of them at random moments, about 0.6 s a round. Then everything acknowledged must
have run or be lost for a reason, nothing may have begun twice, no exit code may be
invented and no process be left. It touches none of your jobs, and deletes what it
made; only when a promise was broken it keeps the directory and names it.
"""

_COLORS = {"ok": "32", "note": "36", "warn": "33", "fail": "31"}
_INDENT = " " * 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``vigie doctor``."""
    parser.add_argument("--deep", action="store_true", help="check the integrity of the whole store")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument(
        "--torture", metavar="N", type=int, help="kill everything at random, N times, and check the books"
    )
    parser.add_argument("--seed", metavar="S", type=int, help="of the torture's choices; default: another each time")


def run(args: argparse.Namespace, out: Context) -> int:
    """Make the checks and print them, or torture; 1 if one fails or a promise was broken, else 0."""
    if args.torture is not None:
        if args.deep:
            raise UsageError("--deep looks at your store, --torture at a home of its own", "one after the other")
        from vigie.torture.report import run as torture

        return torture(out, args.torture, args.seed, as_object=args.json)
    if args.seed is not None:
        raise UsageError("--seed belongs to --torture", f"vigie doctor --torture 30 --seed {args.seed}")
    from vigie.doctor import examine, worst

    home = _home(out)
    checks: list[Check] = []
    if args.json:
        checks = list(examine(home, deep=args.deep))
        found = [check._asdict() for check in checks]
        out.json({"status": worst(checks), "home": home and home.root, "checks": found})
    else:
        width = _width()
        for check in examine(home, deep=args.deep):
            checks.append(check)
            out.print("\n".join(lines(check, width, color=out.color)))
            out.stdout.flush()
        out.say(summary(checks))
    return 1 if worst(checks) == "fail" else 0


def _home(out: Context) -> Home | None:
    try:
        return out.home
    except (KeyError, OSError):
        # No HOME, and a user that the user database does not know.
        return None


def _width() -> int:
    import shutil

    return max(60, min(120, shutil.get_terminal_size((100, 24)).columns))


def summary(checks: list[Check]) -> str:
    """Count the findings in one line.

    >>> from vigie.doctor.check import ok, warn
    >>> summary([ok("a", "x"), ok("b", "x"), warn("c", "x", "y")])
    '2 fine, 1 warning'
    """
    words = {"ok": ("fine", "fine"), "note": ("note", "notes")}
    words |= {"warn": ("warning", "warnings"), "fail": ("failure", "failures")}
    counts = {status: sum(check.status == status for check in checks) for status in words}
    return ", ".join(f"{n} {words[status][n != 1]}" for status, n in counts.items() if n)


def lines(check: Check, width: int, *, color: bool = False) -> list[str]:
    """Give the lines of one finding, wrapped to ``width`` columns.

    >>> from vigie.doctor.check import note
    >>> print("\\n".join(lines(note("pidfd", "works", "less is known", "upgrade"), 60)))
    note  pidfd         works
                        means: less is known
                        do: upgrade
    """
    import textwrap

    word = f"{check.status:<4}"
    if color:
        word = f"\x1b[{_COLORS[check.status]}m{word}\x1b[0m"
    told = [check.said]
    told += [f"means: {check.means}"] if check.means else []
    told += [f"do: {check.todo}"] if check.todo else []
    wrapped = [
        line
        for text in told
        # A path or a command is there to be copied: never broken inside a word.
        for line in textwrap.wrap(
            printable(text),
            width - len(_INDENT),
            break_long_words=False,
            break_on_hyphens=False,
        )
    ]
    return [f"{word}  {check.name:<14}{wrapped[0]}"] + [_INDENT + line for line in wrapped[1:]]


def printable(text: str) -> str:
    r"""Make control characters and bytes that are no text visible and harmless.

    >>> printable("a\x1b[31m\udcff")
    'a\\x1b[31m\\udcff'
    """
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
