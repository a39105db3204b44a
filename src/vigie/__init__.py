"""Vigie runs work for you and watches it."""

from __future__ import annotations

__version__ = "0.1.0"
