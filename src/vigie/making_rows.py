"""Rows as the store has them, made without a store: what applies a file makes a hundred thousand of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from vigie.model import TASK_DEFAULTS
from vigie.store.rows import join_items

__all__ = ["LABEL", "Row", "canonical", "context_row", "part", "task_row"]

Row = tuple[Any, ...]
#: Where the label stands in a task's row.
LABEL = 4
#: Fields of a task in the order of the store's columns, behind kind, argv, function, code and label.
_OPTIONS = ("timeout", "retries", "backoff", "backoff_max", "jitter", "grace", "fresh", "on_lost", "max_output")


def canonical(value: Any) -> str:
    """Give JSON that is the same for the same value.

    >>> canonical({"b": 1, "a": 2})
    '{"a":2,"b":1}'
    """
    return _encode(value)


def _encoder() -> Callable[[Any], str]:
    """Give ``JSONEncoder.encode`` without what it makes anew at each call, as in ``frames``."""
    plain = json.JSONEncoder(sort_keys=True, separators=(",", ":"), check_circular=False)
    encoder: Any = json.encoder
    sample = {"b": [1, 2.5, None, "é"], "a": {}}
    try:
        parts = encoder.c_make_encoder(
            None, plain.default, encoder.encode_basestring_ascii, None, ":", ",", True, False, True
        )
        if "".join(parts(sample, 0)) == plain.encode(sample):
            return lambda value: "".join(parts(value, 0))
    except (AttributeError, TypeError):
        pass  # no interpreter so far
    return plain.encode


_encode = _encoder()


def task_row(made: dict[str, Any]) -> Row:
    """Give a task as the store has it: the columns from ``kind`` on."""
    whole = {**TASK_DEFAULTS, **{key: value for key, value in made.items() if value is not None}}
    argv = whole.get("argv")
    label = str(whole.get("label", "")).encode("utf-8", "replace").decode()
    options = [whole[key] for key in _OPTIONS]
    options[6] = int(options[6])
    return (whole["kind"], None if argv is None else join_items(argv), whole.get("function"), None, label, *options)


def context_row(context: dict[str, Any]) -> Row:
    """Give a context as the store has it."""
    python, path = context.get("python"), context.get("path")
    return (
        os.fsencode(context["cwd"]),
        join_items(f"{key}={value}" for key, value in sorted(context["env"].items())),
        int(context["umask"]),
        None if python is None else os.fsencode(python),
        None if path is None else join_items(path),
    )


def part(value: object) -> bytes:
    """Give what ``store.rows.digest`` makes of one column."""
    data = value if isinstance(value, bytes) else repr(value).encode("utf-8", "surrogateescape")
    return len(data).to_bytes(8, "little") + data
