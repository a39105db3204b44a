"""``vigie events``: the timeline."""

from __future__ import annotations

import json
import time
from itertools import islice

from vigie import selection, view
from vigie.cli import shown
from vigie.errors import UsageError
from vigie.terminal import Table, clean, paint, width

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator
    from typing import Any

    from vigie.cli.context import Context
    from vigie.store.reader import Reader

SUMMARY = "show the timeline: every change of state, and every write by a person"
EXAMPLES = """\
vigie events                       # the newest
vigie events --since 1h --name 'backup*'
vigie events --follow
vigie events --json --limit 0 | jq '.[] | select(.uid != null)'   # what people did
"""
USUAL = 50
_POLL = 0.05
_PAGE = 500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    selection.add_arguments(parser)
    add = parser.add_argument
    add("--limit", metavar="N", type=int, help=f"the newest N (default {USUAL}, with --since or --json all; 0: all)")
    add("--follow", action="store_true", help="go on with what comes; Ctrl-C ends it")
    add("--json", action="store_true", help="as an array; with --follow one line an event")


def run(args: argparse.Namespace, out: Context) -> int:
    """Show the timeline."""
    if args.limit is not None and args.limit < 0:
        raise UsageError(f"--limit is {args.limit}: it must not be negative")
    chosen = selection.from_args(args)
    # Events of firings and lives are part of the timeline too.
    if chosen.about_jobs:
        chosen.every = True
    usual = None if chosen.since is not None or args.json else USUAL
    limit = usual if args.limit is None else args.limit or None
    reader = out.reader()
    if args.json and not args.follow:
        shown.json_array(out, (view.event(row) for row in _newest(reader, chosen, limit)))
        return 0
    writer = _Lines(out, as_json=args.json)
    last = reader.newest_event()
    count = 0
    for page in _pages(_newest(reader, chosen, limit, before=last + 1)):
        writer.write(page)
        count += len(page)
    out.stdout.flush()
    if args.follow:
        _follow(reader, chosen, last, writer, out)
    if not count:
        _nothing(chosen, out)
    return 0


def _nothing(chosen: selection.Filter, out: Context) -> None:
    if chosen.about_jobs:
        from vigie.cli.nothing import say_nothing

        say_nothing(chosen, out)
    elif out.is_person:
        since = " since then" if chosen.since is not None else " yet"
        out.say(f"nothing has happened{since} · vigie start -- sleep 60")


def _newest(
    reader: Reader, chosen: selection.Filter, limit: int | None, before: int | None = None
) -> Iterator[dict[str, Any]]:
    """Give the newest events, oldest first, a page at a time."""
    last = reader.newest_event() + 1 if before is None else before
    if limit is None:
        after = 0
    else:
        page = _last(reader, chosen, limit, last)
        if not page:
            return
        after = page - 1
    while page_rows := reader.events(chosen, after=after, limit=_PAGE):
        for row in page_rows:
            if row["id"] >= last:
                return
            yield row
        after = page_rows[-1]["id"]


def _pages(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    left = iter(rows)
    while page := list(islice(left, _PAGE)):
        yield page


def _last(reader: Reader, chosen: selection.Filter, limit: int, before: int) -> int:
    """Give the id of the oldest of the newest ``limit`` events, 0 if there is none."""
    first = 0
    left = limit
    while left > 0:
        page = reader.events(chosen, before=before, limit=min(_PAGE, left))
        if not page:
            break
        first = before = page[0]["id"]
        left -= len(page)
    return first


def _follow(reader: Reader, chosen: selection.Filter, last: int, writer: _Lines, out: Context) -> None:
    version: Any = None
    while True:
        found = reader.data_version()
        if found != version:
            version = found
            while page := reader.events(chosen, after=last, limit=_PAGE):
                writer.write(page)
                last = page[-1]["id"]
            out.stdout.flush()
        time.sleep(_POLL)


class _Lines:
    """Writes events as they come, in columns that only grow."""

    def __init__(self, out: Context, *, as_json: bool) -> None:
        self._out = out
        self._json = as_json
        self._table = Table(["TIME", "ABOUT", "WHAT", "STATE", "BY", "DETAIL"], spare=(4, 3))
        self._header = out.is_tty
        self._room = width(out.stdout) if out.is_tty else None
        self._day = time.localtime().tm_yday

    def write(self, page: list[dict[str, Any]]) -> None:
        """Write events; those of one page share their columns."""
        if self._json:
            for row in page:
                self._out.print(shown.dumps(view.event(row)))
            return
        rows = [self._cells(row) for row in page]
        for line in self._table.lines(rows, room=self._room, paint=paint(self._out), header=self._header):
            self._out.print(line)
        self._header = False

    def _cells(self, row: dict[str, Any]) -> list[str | tuple[str, str | None]]:
        return [
            self._time(row["at"]),
            about(row),
            row["verb"],
            self._change(row),
            row["program"] or ("-" if row["uid"] is None else f"uid {row['uid']}"),
            detail(row),
        ]

    def _time(self, at: int) -> str:
        clock = time.localtime(at / 1e6)
        form = "%H:%M:%S" if clock.tm_yday == self._day else "%Y-%m-%d %H:%M:%S"
        return f"{time.strftime(form, clock)}.{at // 1000 % 1000:03d}"

    def _change(self, row: dict[str, Any]) -> tuple[str, str | None]:
        before, after = row["before"], row["after"]
        if row["object"] is not None or after is None:
            return "-", None
        return (f"{before} → {after}" if before and before != after else after), after


def about(row: dict[str, Any]) -> str:
    """Give what an event is about: a job, many that follow each other, or a thing."""
    if row["job"] is None:
        return row["object"] or "-"
    return str(row["job"]) if row["last"] is None else f"{row['job']}-{row['last']}"


def detail(row: dict[str, Any]) -> str:
    """Give an event's detail in a few words."""
    text = row["detail"] or (row["after"] if row["object"] is not None else "") or ""
    if not text.startswith("{"):
        return clean(text)
    try:
        known = json.loads(text)
    except ValueError:
        return clean(text)
    shown_pairs = {key: value for key, value in known.items() if value is not None and key != "name"}
    if "due" in shown_pairs:
        shown_pairs["due"] = view.instant(shown_pairs["due"])
    return clean(", ".join(f"{key.replace('_', ' ')} {value}" for key, value in shown_pairs.items()))
