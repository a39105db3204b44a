"""``vigie.map``: one function over many items, lazily at both ends; see ``course``."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vigie.engines.launch import Launched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

    from vigie.parallel.course import Run

__all__ = ["map"]


def map(  # noqa: A001 - the name that people type
    function: Callable[[Any], Any],
    items: Iterable[Any],
    /,
    *,
    limit: int | None = None,
    on: Literal["processes", "threads", "interpreters", "async", "inline", "auto"] = "processes",
    ordered: bool = True,
    timeout: float | str | None = None,
    retries: int = 0,
    rate: str | float | None = None,
    errors: Literal["raise", "collect", "skip"] = "raise",
    progress: bool | str | None = None,
    resume: str | None = None,
    key: Callable[[Any], Any] | None = None,
    fresh: bool = False,
    init: Callable[[], Any] | None = None,
    recycle: int | None = None,
    window: int | None = None,
    memory_limit: int | str | None = None,
) -> Run:
    """Call a function with each item, several at once, and give the results as they come.

    Parameters
    ----------
    function:
        Called with one item. With processes it may be a lambda, a closure, or one of
        ``__main__``: no guard is needed.
    items:
        Any iterable, an endless one too: at most a window of it is taken ahead.
    limit:
        How many at once; default: the cores, 32 threads, or 100 coroutines.
    on:
        ``processes`` (which alone can end any item that takes too long, and outlive one that
        crashes), ``threads`` for what waits, ``async`` for coroutine functions, which run in an event
        loop in a thread of its own, ``inline`` for the caller's own thread, from Python 3.14 on
        ``interpreters``. ``auto`` times a few items in the caller's thread, and chooses.
    ordered:
        Results in the order of the items, else as they come.
    timeout:
        For each item: seconds or text (``"30s"``). In a process its worker is ended; a thread is
        abandoned with it; a coroutine is cancelled; inline it is refused.
    retries:
        How often an item is tried again that raised, took too long or lost its worker.
    rate:
        How many may start: ``"10/s"``, ``"600/m"``, or a number a second.
    errors:
        ``raise`` the first, ``skip`` what failed, or ``collect`` an :class:`Outcome` of each item.
    progress:
        Show how far it is, on stderr or in a notebook. Default: on a terminal, if it takes longer than
        half a second. True: always, as lines where there is no terminal; a text: so too, under that
        label; False: never.
    resume:
        A name: each finished item is noted in a journal of that name (``resume/NAME`` in Vigie's home).
        When it is run again only the rest is computed; what was done earlier is given from the journal.
    key:
        With ``resume``, gives what tells items apart; default: a stable hash of the item.
    fresh:
        With ``resume``, forget what earlier runs did.
    init:
        Called in each worker before its first item. Returns it a dictionary, its entries are
        attributes of ``vigie.state`` there.
    recycle:
        Replace a worker process after so many items; 1: a fresh one each.
    window:
        Items between the source and the caller at most; default: a thousand, or four batches a worker.
    memory_limit:
        Data that a worker process may have: bytes or text (``"2GB"``); an item that wants more gets
        a ``MemoryError``. (RLIMIT_DATA; macOS does not enforce it.)

    Raises
    ------
    UsageError
        When an option makes no sense.
    NotSerializable
        When the function, an item or a result cannot travel to or from a worker.
    Conflict
        When another run has the journal of ``resume`` open.
    ItemTimeout, WorkerDied
        With ``errors="raise"``, as anything that the function raises.

    >>> list(map(len, ["a", "bb", ""], on="inline"))
    [1, 2, 0]
    """
    # First of all: what follows takes as long to load as a worker takes to come up.
    launched = engine = journal = None
    try:
        if on == "processes":
            launched = Launched()
        from vigie.parallel.course import Course, Run
        from vigie.parallel.plan import Crew, Plan, no_key, shown

        no_key(resume, key, fresh=fresh)
        plan = Plan(ordered=ordered, timeout=timeout, retries=retries, rate=rate, errors=errors, window=window)
        crew = Crew(function, on, plan, limit=limit, init=init, recycle=recycle, memory_limit=memory_limit)
        engine, launched = crew.engine(launched), None
        if resume is not None:
            from vigie.parallel.resume import Resume

            journal = Resume(resume, crew.function, items, key=key, fresh=fresh)
        show = shown(progress, crew.function, items, journal)
        return Run(Course(engine, items, plan, journal, show))
    except BaseException:
        for made in (engine, journal):
            if made is not None:
                made.close()
        if launched is not None:
            launched.discard()
        raise
