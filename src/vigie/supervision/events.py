"""What an instance of a service is, what can happen to it, and what is then to be done."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

__all__ = [
    "ALIVE",
    "EVENTS",
    "STATES",
    "Ailing",
    "Began",
    "Connected",
    "DueCame",
    "Effect",
    "Ended",
    "Event",
    "Gone",
    "HookEnded",
    "Instance",
    "NeedsChanged",
    "PauseAsked",
    "Readied",
    "Refusal",
    "ReloadAsked",
    "RestartAsked",
    "ResumeAsked",
    "Said",
    "Settled",
    "StartAsked",
    "StopAsked",
    "TooLate",
    "Unready"
]  # fmt: skip

STATES = ("inactive", "starting", "ready", "degraded", "reloading", "paused", "stopping", "backoff", "failed")
#: A process of it runs, or may.
ALIVE = ("starting", "ready", "degraded", "reloading", "paused", "stopping")


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance as it stands.

    Attributes
    ----------
    desired:
        ``up``, ``down`` or ``paused``.
    state, cause, since:
        Observed, why, and since when (µs UTC).
    at:
        The part of the state; see above.
    then, then_cause:
        Of stopping: what follows: ``start``, ``rest``, ``restart`` (at once), ``backoff``, ``fail``.
    lacks:
        Why it is degraded: (``self`` or ``needs``, a sentence) each.
    failures, restarts, due, ready_since:
        See the store's ``instances``.
    paused_by:
        ``person``, or ``needs``: what it needs is paused.
    slow:
        It was said that its back-off has reached the longest wait.
    """

    desired: str = "down"
    state: str = "inactive"
    cause: str = "not started"
    since: int = 0
    at: str | None = None
    then: str | None = None
    then_cause: str = ""
    lacks: tuple[tuple[str, str], ...] = ()
    failures: int = 0
    restarts: int = 0
    due: int | None = None
    ready_since: int | None = None
    paused_by: str | None = None
    slow: bool = False


# --- events: each carries its instant (µs UTC) ---------------------------------


@dataclass(frozen=True, slots=True)
class StartAsked:
    """It is to be up: a ``person`` asks, the machine has booted (``boot``), or another needs it (``needed``)."""

    now: int
    by: str = "person"


@dataclass(frozen=True, slots=True)
class StopAsked:
    """It is to be down; ``hurry``: at once."""

    now: int
    cause: str = "stopped"
    hurry: bool = False


@dataclass(frozen=True, slots=True)
class RestartAsked:
    """It is to have another life."""

    now: int
    cause: str = "restarted"


@dataclass(frozen=True, slots=True)
class ReloadAsked:
    """It is to read its settings anew."""

    now: int


@dataclass(frozen=True, slots=True)
class PauseAsked:
    """Its tree is to be frozen, since a ``person`` asks or something that it ``needs`` is."""

    now: int
    by: str = "person"


@dataclass(frozen=True, slots=True)
class ResumeAsked:
    """It is to go on."""

    now: int
    by: str = "person"


@dataclass(frozen=True, slots=True)
class NeedsChanged:
    """What it waits for, or requires, has become another: ``lacking`` says what of the required is not ready."""

    now: int
    lacking: str | None = None


@dataclass(frozen=True, slots=True)
class Connected:
    """Somebody waits at one of its sockets."""

    now: int


@dataclass(frozen=True, slots=True)
class HookEnded:
    """The command of a hook has ended; ``failure`` says how, if badly."""

    now: int
    hook: str
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Began:
    """Its process runs."""

    now: int


@dataclass(frozen=True, slots=True)
class Readied:
    """It is ready: it said so, or was found to be."""

    now: int


@dataclass(frozen=True, slots=True)
class Unready:
    """It was ready, and is not any more."""

    now: int
    cause: str


@dataclass(frozen=True, slots=True)
class Ailing:
    """It must not go on as it is: its watchdog is silent, a probe of its liveness has failed."""

    now: int
    chance: float
    cause: str


@dataclass(frozen=True, slots=True)
class TooLate:
    """It is not ready in the time that it has for that, after a start or a reload."""

    now: int
    chance: float
    cause: str


@dataclass(frozen=True, slots=True)
class Said:
    """It said ``reloading`` or ``stopping``."""

    now: int
    what: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Its process has ended.

    ``code`` is an exit code, or None; ``how`` says it in words; ``name`` is what ``exits`` calls it: a code or the
    name of a signal. ``never`` is set where there never was a process. ``left``: some of its tree is still there.
    """

    now: int
    chance: float
    how: str
    name: str = ""
    code: int | None = None
    never: bool = False
    left: bool = False


@dataclass(frozen=True, slots=True)
class Gone:
    """Its process has ended, and nothing of its tree is left; or ``left`` says what could not be ended."""

    now: int
    chance: float = 0.5
    left: str | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """It has been ready for as long as the plan asks."""

    now: int


@dataclass(frozen=True, slots=True)
class DueCame:
    """The wait of its back-off is over."""

    now: int


Event = (
    StartAsked | StopAsked | RestartAsked | ReloadAsked | PauseAsked | ResumeAsked | NeedsChanged | Connected
    | HookEnded | Began | Readied | Unready | Ailing | TooLate | Said | Ended | Gone | Settled | DueCame
)  # fmt: skip
EVENTS = (
    StartAsked, StopAsked, RestartAsked, ReloadAsked, PauseAsked, ResumeAsked, NeedsChanged, Connected, HookEnded,
    Began, Readied, Unready, Ailing, TooLate, Said, Ended, Gone, Settled, DueCame,
)  # fmt: skip


class Effect(Enum):
    """What the duty does, in the transaction or after it."""

    SPAWN = auto()  #: begin a life
    BEFORE_START = auto()  #: run that hook, and tell of its end
    AFTER_START = auto()  #: run it
    BEFORE_STOP = auto()  #: run it, and tell of its end
    AFTER_EXIT = auto()  #: run it, and tell of its end
    ON_FAILURE = auto()  #: run it
    STOP_HOOK = auto()  #: end the hook that is running
    TERMINATE = auto()  #: end the whole tree by the plan's stop sequence, and tell when it is gone
    HURRY = auto()  #: the graces are over
    CLEAR = auto()  #: end what an ended life has left behind, and tell when it is gone
    FREEZE = auto()  #: stop the tree by SIGSTOP
    THAW = auto()  #: let it go on
    RELOAD = auto()  #: tell it to reload
    WATCH = auto()  #: look after readiness, liveness and watchdog as the state asks
    UNWATCH = auto()  #: look after nothing any more
    ARM = auto()  #: set the alarm for ``due``
    LISTEN = auto()  #: tell of the first connection
    SLOW = auto()  #: say once that it is tried ever more rarely
    TELL = auto()  #: its dependents may go on, or must not


class Refusal(Exception):
    """The event cannot be taken in this state; the text says why: "web …"."""
