"""What the agent calls things that were sent to it, so that they need not be sent again.

A program that starts a function a thousand times does so from the same surroundings.
The agent stores both once, under the digest of their content, and tells it to whoever
asks; later requests give the digest instead.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Names"]

#: Functions whose names are kept.
_MOST = 64


class Names:
    """What need not be sent again, since the agent has a name for it."""

    def __init__(self) -> None:
        self._context: tuple[dict[str, Any], str] | None = None
        self._tasks: dict[str, tuple[dict[str, Any], bytes | None, str]] = {}

    def context(self, context: dict[str, Any]) -> str | None:
        """Give the name of surroundings, if they are those that were sent last."""
        known = self._context
        return known[1] if known is not None and known[0] == context else None

    def task(self, task: dict[str, Any], code: bytes | None) -> str | None:
        """Give the name of a task, if it was sent lately with the same code."""
        known = self._tasks.get(task["label"])
        return known[2] if known is not None and known[0] == task and known[1] == code else None

    def learn(self, context: dict[str, Any], task: dict[str, Any], code: bytes | None, answer: dict[str, Any]) -> None:
        """Take the names out of the answer to a ``submit``, if it asked for them."""
        if "context" in answer:
            self._context = context, answer.pop("context")
        name = answer.pop("task", None)
        # Each command is a task of its own, which is seldom sent twice.
        if name is not None and task["kind"] == "function":
            if len(self._tasks) >= _MOST:
                self._tasks.clear()
            self._tasks[task["label"]] = task, code, name

    def forget(self) -> None:
        """Forget them: the agent does not know one of them."""
        self._context = None
        self._tasks.clear()
