"""``vigie``: finds the verb, builds its parser alone, runs it, and says what went wrong.

Every message of an error goes to stderr as what happened and, indented, what to do
next; a traceback only with ``VIGIE_DEBUG=1``.
"""

from __future__ import annotations

import os
import sys

from vigie.errors import UsageError, VigieError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from vigie.cli.context import Context

__all__ = ["VERBS", "load", "main", "parser_of"]

#: Verb → module, and the name in it for modules with several. In the order of the help.
VERBS = {
    "": "overview",
    "start": "start",
    "run": "run",
    "map": "map",
    "jobs": "jobs",
    "show": "show",
    "why": "why",
    "events": "events",
    "logs": "logs",
    "receive": "receive",
    "wait": "wait",
    "stop": "control:STOP",
    "suspend": "control:SUSPEND",
    "resume": "control:RESUME",
    "retry": "control:RETRY",
    "remove": "control:REMOVE",
    "limit": "steer:LIMIT",
    "drain": "steer:DRAIN",
    "skip": "steer:SKIP",
    "schedule": "schedule",
    "service": "service",
    "up": "up:UP",
    "down": "up:DOWN",
    "apply": "apply",
    "queue": "queue",
    "agent": "agent",
    "doctor": "doctor",
    "demo": "demo",
    "help": "help",
    "completion": "completion",
    "__complete": "completion:COMPLETE",
}
#: What other tools call them.
_ELSEWHERE = {
    "add": "start", "submit": "start", "spawn": "start", "exec": "run",
    "ps": "jobs", "ls": "jobs", "list": "jobs", "job": "jobs", "status": "jobs", "info": "show", "inspect": "show",
    "history": "events", "log": "logs", "tail": "logs -f", "follow": "logs -f", "cat": "logs", "output": "logs",
    "kill": "stop", "cancel": "stop", "abort": "stop", "pause": "suspend", "freeze": "suspend",
    "continue": "resume", "unpause": "resume", "restart": "retry", "rerun": "retry",
    "rm": "remove", "delete": "remove", "clean": "remove --finished", "prune": "remove --finished",
    "parallel": "map", "xargs": "map", "foreach": "map", "throttle": "limit",
    "services": "service list", "supervise": "service add", "daemon": "service add",
    "queues": "queue list", "slots": "queue list", "check": "doctor", "tutorial": "demo",
}  # fmt: skip
#: Verbs whose exit code is the work's own have this one for Vigie's errors.
_OWN_ERROR = {"run": 125, "map": 125}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and give its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    wants_system = words[:1] == ["--system"]
    verb, rest = _verb(words[1:] if wants_system else words)
    out = _context(f"vigie {verb}".rstrip())
    try:
        if wants_system:
            _address_system()
        code = _dispatch(verb, rest, out)
        out.stdout.flush()
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # Who read has gone; say nothing, and let nothing be written at the end.
        _silence(out)
        code = 141
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except Exception as error:
        code = _explain(error, verb, out)
    finally:
        _close(out)
    return code


def _fill_streams() -> None:
    """Open nothing in the place of standard streams that are closed: else the next file would be one of them."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - as long as the program


def _say_again(what: Any) -> None:
    """Send an interrupt again that fell into a destructor, where Python lets nothing out."""
    error = what.exc_value
    if isinstance(error, KeyboardInterrupt):
        number = 2
    elif isinstance(error, SystemExit) and isinstance(error.code, int) and error.code > 128:
        number = error.code - 128
    else:
        sys.__unraisablehook__(what)
        return
    import threading

    threading.Thread(target=_send_outside, args=(number, threading.get_ident()), daemon=True).start()


def _send_outside(number: int, thread: int) -> None:
    """Send a signal to ourselves once a thread has left :func:`_say_again`, in which it would be lost once more."""
    import time

    frame = sys._current_frames().get(thread)
    while frame is not None:
        if frame.f_code is _say_again.__code__:
            time.sleep(0.001)
            frame = sys._current_frames().get(thread)
        else:
            frame = frame.f_back
    os.kill(os.getpid(), number)


def _verb(words: list[str]) -> tuple[str, list[str]]:
    """Split the verb off; ``-h`` and ``--version`` are words for verbs too."""
    if not words:
        return "", []
    first = words[0]
    if first in ("-h", "--help"):
        return "help", words[1:]
    if first in ("-V", "--version", "version"):
        return "version", words[1:]
    if first.startswith("-"):
        return "", words
    return first, words[1:]


def _address_system() -> None:
    """Address the agent that `vigie --system agent install` has made.

    Raises
    ------
    Refused
        When somebody else than root asks, or another home is named as well.
    """
    from vigie.errors import Refused
    from vigie.installed import SYSTEM_HOME

    named = os.environ.get("VIGIE_HOME")
    if named and os.path.abspath(named) != SYSTEM_HOME:
        raise Refused(
            f"--system means {SYSTEM_HOME}, and VIGIE_HOME is {named}", "unset VIGIE_HOME, or leave --system out"
        )
    if os.geteuid() != 0:
        raise Refused(f"--system addresses root's agent ({SYSTEM_HOME}), and you are not root", "sudo vigie --system …")
    os.environ["VIGIE_HOME"] = SYSTEM_HOME


def _dispatch(verb: str, words: list[str], out: Context) -> int:
    if verb == "version":
        from vigie import __version__

        out.print(f"vigie {__version__}")
        return 0
    if verb not in VERBS:
        raise _unknown(verb)
    module = load(verb)
    code: int = module.run(_parse(verb, module, words), out)
    return code


def load(verb: str) -> Any:
    """Give the module, or the :class:`~vigie.cli.context.Verb`, of a verb.

    Raises
    ------
    ModuleNotFoundError
        When that verb does not exist yet.
    """
    from importlib import import_module

    name, _, part = VERBS[verb].partition(":")
    module = import_module(f"vigie.cli.{name}")
    return getattr(module, part) if part else module


def parser_of(verb: str, module: Any) -> argparse.ArgumentParser:
    """Build the parser of one verb."""
    from vigie.cli.parser import Parser

    parser = Parser(
        prog=f"vigie {verb}".rstrip(),
        usage=getattr(module, "USAGE", None),
        description=module.SUMMARY[0].upper() + module.SUMMARY[1:] + ".",
        epilog=_epilog(module),
    )
    module.add_arguments(parser)
    return parser


def _epilog(module: Any) -> str:
    examples = "\n".join("  " + line for line in module.EXAMPLES.strip("\n").splitlines())
    notes = getattr(module, "NOTES", "")
    return f"{notes}\n\nexamples:\n{examples}" if notes else f"examples:\n{examples}"


def _parse(verb: str, module: Any, words: list[str]) -> Any:
    """Read a verb's words: by its own means, where it has some, or by its parser."""
    own = getattr(module, "parse", None)
    if own is not None:
        found = own(words, f"vigie {verb}")
        if found is not None:
            return found
        words = ["--help"]
    bare = getattr(module, "BARE", None)
    if bare is not None and not any(word in ("-h", "--help") or not word.startswith("-") for word in words):
        words = [bare, *words]
    return parser_of(verb, module).parse_args(words)


def _unknown(verb: str) -> UsageError:
    from difflib import get_close_matches

    known = [name for name in VERBS if name and not name.startswith("_")]
    close = [_ELSEWHERE[verb]] if verb in _ELSEWHERE else get_close_matches(verb, known, 3)
    hint = f"did you mean {' or '.join(f'vigie {name}' for name in close)}?" if close else "vigie help"
    return UsageError(f"there is no verb {verb}", hint)


def _context(program: str) -> Context:
    from vigie.cli.context import Context

    for stream in (sys.stdout, sys.stderr):
        # Bytes of names and arguments that are no text pass through unharmed;
        # what the locale cannot show does not end the program.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=_errors(stream.encoding or ""))
    return Context(program)


def _errors(encoding: str) -> str:
    """Give what becomes of characters that a stream's encoding lacks."""
    if encoding.lower().replace("-", "") == "utf8":
        return "surrogateescape"
    from vigie.terminal import PLAIN

    return PLAIN


def _explain(error: Exception, verb: str, out: Context) -> int:
    """Say what went wrong, and give the exit code."""
    if os.environ.get("VIGIE_DEBUG") == "1":
        import traceback

        traceback.print_exc(file=out.stderr)
    if isinstance(error, VigieError):
        message, hint, code = error.message, error.hint, error.code
    elif isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("vigie.cli."):
        message, hint, code = f"vigie {verb} does not work in this version yet", "vigie help", 2
    elif isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        message, hint, code = f"{where}{error.strerror or error}", "VIGIE_DEBUG=1 shows where", 1
    else:
        message, hint, code = f"{type(error).__name__}: {error}", "this is a bug; VIGIE_DEBUG=1 shows where", 1
    _tell(message, hint, out)
    return _OWN_ERROR.get(verb, code)


def _tell(message: str, hint: str | None, out: Context) -> None:
    text = f"vigie: {message}\n"
    if hint:
        text += f"  {hint}\n"
    try:
        out.stdout.flush()
    except OSError:
        _silence(out)
    try:
        out.stderr.write(text)
        out.stderr.flush()
    except OSError:
        pass


def _silence(out: Context) -> None:
    """Send what is still buffered nowhere, or Python complains at its end."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, out.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass


def _close(out: Context) -> None:
    try:
        out.close()
    except Exception:
        # All is said; a store or a socket that will not close changes nothing.
        if os.environ.get("VIGIE_DEBUG") == "1":
            raise


def entry() -> NoReturn:
    """Be the program ``vigie``: run, and leave without the interpreter's farewell.

    Tearing the interpreter down costs as much as connecting to the agent, and
    there is nothing to save.
    """
    sys.unraisablehook = _say_again
    _fill_streams()
    code = main()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 1
    os._exit(code)
