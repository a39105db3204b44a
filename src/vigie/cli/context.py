"""What a verb is given: the home, the way to the agent and to the store, the streams."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any, TextIO

    from vigie.client import Client
    from vigie.config import Home
    from vigie.store.reader import Reader

__all__ = ["Context", "Verb"]


class Verb:
    """A verb of a module that holds several: the same four names a module would have."""

    def __init__(
        self,
        summary: str,
        examples: str,
        add_arguments: Callable[[argparse.ArgumentParser], None],
        run: Callable[[argparse.Namespace, Context], int],
        parse: Callable[[list[str], str], Any] | None = None,
    ) -> None:
        self.SUMMARY = summary
        self.EXAMPLES = examples
        self.add_arguments = add_arguments
        self.run = run
        #: Of verbs that read their words by themselves; None from it asks for the help.
        self.parse = parse


class Context:
    """One call of the command line.

    Parameters
    ----------
    program:
        What events name as the program: ``vigie start``.
    home:
        Default: the home that the environment names.
    stdout, stderr:
        Text streams with a ``buffer``; data goes to the first, messages to the second.
    """

    def __init__(
        self,
        program: str = "vigie",
        *,
        home: Home | None = None,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
    ) -> None:
        self.program = program
        self.stdout: TextIO = stdout or sys.stdout
        self.stderr: TextIO = stderr or sys.stderr
        self._home = home
        self._client: Client | None = None
        self._reader: Reader | None = None

    @property
    def home(self) -> Home:
        """The home that this call works on."""
        if self._home is None:
            from vigie.config import Home

            self._home = Home()
        return self._home

    def forget_connections(self) -> None:
        """Be without a client and a reader, as after a fork: those of before belong to the parent."""
        self._client = None
        self._reader = None

    @property
    def is_tty(self) -> bool:
        """Whether a person reads stdout."""
        return _is_tty(self.stdout)

    @property
    def is_person(self) -> bool:
        """Whether a person reads stderr, where messages go."""
        return _is_tty(self.stderr)

    @property
    def color(self) -> bool:
        """Whether stdout takes colours (``NO_COLOR`` and ``TERM=dumb`` say no)."""
        return self.is_tty and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def client(self) -> Client:
        """Give the way to the agent; it connects, and starts the agent, on first use."""
        if self._client is None:
            from vigie.client import Client

            self._client = Client(self.home, program=self.program)
        return self._client

    def reader(self) -> Reader:
        """Give the read-only store; it needs no agent."""
        if self._reader is None:
            from vigie.store.reader import Reader

            self._reader = Reader(self.home)
        return self._reader

    def print(self, text: str) -> None:
        """Write a line of data to stdout."""
        self.stdout.write(text + "\n")

    def say(self, text: str) -> None:
        """Write a message to stderr."""
        self.stdout.flush()
        self.stderr.write(text + "\n")
        self.stderr.flush()

    def json(self, value: object) -> None:
        """Write a JSON value and a line end to stdout, as UTF-8 whatever the locale.

        Bytes that are no UTF-8 (argv, paths) are lone surrogates, which only the
        escaped form can carry.
        """
        import json

        text = json.dumps(value, ensure_ascii=False)
        try:
            data = text.encode()
        except UnicodeEncodeError:
            data = json.dumps(value).encode()
        self.stdout.flush()
        self.stdout.buffer.write(data + b"\n")
        self.stdout.buffer.flush()

    def close(self) -> None:
        """Let go of the agent and the store."""
        if self._client is not None:
            self._client.close()
        if self._reader is not None:
            self._reader.close()


def _is_tty(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:
        return False
