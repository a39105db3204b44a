"""Warnings and logging become records. The worker loads this file by path."""

from __future__ import annotations

import sys
import warnings

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from typing import Any, TextIO

    from .worker_streams import Sink

__all__ = ["Hooks"]


class Hooks:
    """Catches ``warnings`` at once and ``logging`` as soon as it is imported.

    Importing logging costs more than a whole worker's start, so that it is left
    to the jobs that want it.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._warned = False
        self._show = self._showwarning
        warnings.showwarning = self._show
        if "logging" in sys.modules:
            _catch_logging(sink)
        else:
            sys.meta_path.insert(0, _OnImport(sink))

    def restore(self) -> None:
        """Show warnings again after a job, the ones that it has seen included."""
        if self._warned:
            self._warned = False
            forget = getattr(warnings, "_filters_mutated", None) or getattr(
                warnings, "_filters_mutated_lock_held", None
            )
            if forget is not None:
                _quietly(forget)

    def _showwarning(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = warnings.formatwarning(message, category, filename, lineno, line)
        if file is not None:
            file.write(text)
            return
        self._warned = True
        self._sink.record("warning", text=text, level="warning", name=category.__name__)


def _quietly(forget: Any) -> None:
    try:
        forget()
    except Exception:
        pass  # a Python that arranges its filters otherwise shows a warning once only


class _OnImport:
    """An import finder that waits for ``logging``, and then goes."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "logging":
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                _then_catch(spec.loader, self._sink)
                return spec
        return None


def _then_catch(loader: Any, sink: Sink) -> None:
    load = loader.exec_module

    def load_and_catch(module: Any) -> None:
        load(module)
        _catch_logging(sink)

    loader.exec_module = load_and_catch


def _stream(level: int) -> str:
    if level >= 40:
        return "error"
    return "warning" if level >= 30 else "info" if level >= 20 else "debug"


def _catch_logging(sink: Sink) -> None:
    """Put a handler of ours on the root logger; levels stay as they are."""
    import logging

    from .worker_streams import Recorder

    def is_recorder(handler: logging.Handler) -> bool:
        return isinstance(handler, logging.StreamHandler) and isinstance(handler.stream, Recorder)

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # The user's own handler prints it already.
            if any(map(is_recorder, logging.root.handlers)):
                return
            try:
                text = self.format(record)
                level = record.levelname.lower()
                sink.record(_stream(record.levelno), text=text, level=level, name=record.name)
            except Exception:
                self.handleError(record)

    ours = Handler()
    ours.set_name("vigie")
    logging.root.addHandler(ours)
    configure = logging.basicConfig

    def basicConfig(**options: Any) -> None:  # noqa: N802 - the name it stands for
        """Do what logging.basicConfig does; what it would print to stderr stays a record."""
        root = logging.root
        if ours in root.handlers:
            root.removeHandler(ours)
        configure(**options)
        for handler in [h for h in root.handlers if type(h) is logging.StreamHandler and is_recorder(h)]:
            root.removeHandler(handler)
            if "format" in options:
                ours.setFormatter(handler.formatter)
        root.addHandler(ours)

    basicConfig.__doc__ = configure.__doc__
    logging.basicConfig = basicConfig
