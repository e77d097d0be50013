"""Where a value comes from in the user's source, and how to say so.

An origin is a (file, line) pair outside this package. Each node carries at most eight, outside its
identity: the line that made it first, then lines of rewrites and of calls that met it again.
"""

from __future__ import annotations

import linecache
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from symgraph.config import config

Origin = tuple[str, int]
Origins = tuple[Origin, ...]

LIMIT = 8
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_inherited: ContextVar[Origins] = ContextVar("origins", default=())


def here() -> Origins:
    """Give the origins of a node made now: inherited ones first, then the user's own line."""
    inherited = _inherited.get()
    if not config.origins:
        return inherited
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None or frame.f_code.co_filename.startswith("<frozen"):
        return inherited
    return union(inherited, ((frame.f_code.co_filename, frame.f_lineno),))


def union(first: Origins, second: Origins) -> Origins:
    """Join two lists of origins, without doubles, at most eight."""
    if not second or first is second:
        return first
    if not first:
        return second[:LIMIT]
    return tuple(dict.fromkeys(first + second))[:LIMIT]


@contextmanager
def inherit(origins: Origins) -> Iterator[None]:
    """Give every node made inside these origins too (rewrites and gradient rules use it)."""
    token = _inherited.set(union(origins, _inherited.get()))
    try:
        yield
    finally:
        _inherited.reset(token)


def source_line(origin: Origin) -> str:
    """Give the text of the user's line, or nothing when the source cannot be read."""
    return linecache.getline(*origin).strip()


def describe(origin: Origin) -> str:
    """Say where: `train.py:12   h = x @ W`."""
    text = source_line(origin)
    place = f"{os.path.basename(origin[0])}:{origin[1]}"
    if len(text) > 60:
        text = text[:57] + "..."
    return f"{place}   {text}" if text else place


def assigned_name(origins: Origins) -> str | None:
    """Guess the user's name for a value from the line that made it: `h = x @ W` gives `h`."""
    if not origins:
        return None
    found = re.match(r"([A-Za-z_][\w.]*)\s*(?::[^=]+)?=(?!=)", source_line(origins[0]))
    return found.group(1) if found else None
