"""Where a value comes from in the user's source, and how to say so.

An origin is a line of a file outside this package, and the module whose `forward` was running. Each
node carries at most eight, outside its identity: the line that made it first, then lines of
rewrites and of calls that met it again.
"""

from __future__ import annotations

import linecache
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from symgraph.config import config


class Origin(NamedTuple):
    """A place in the user's program: file, line, and the module that was being called.

    `module` is the outermost module's class, then the name under which it holds the inner one, as
    in `AlexNet/features.0`; empty outside of modules.
    """

    file: str
    line: int
    module: str = ""


Origins = tuple[Origin, ...]

LIMIT = 8
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_inherited: ContextVar[Origins] = ContextVar("origins", default=())
_module: ContextVar[str] = ContextVar("module", default="")


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
    made = Origin(frame.f_code.co_filename, frame.f_lineno, _module.get())
    return union(inherited, (made,))


def union(first: Origins, second: Origins) -> Origins:
    """Join two lists of origins, without doubles, at most eight."""
    if not second or first is second:
        return first
    if not first:
        return second[:LIMIT]
    return tuple(dict.fromkeys(first + second))[:LIMIT]


class inherit:  # noqa: N801 - used like a function
    """Give every node made inside these origins too (rewrites and gradient rules use it)."""

    __slots__ = ("_origins", "_token")

    def __init__(self, origins: Origins) -> None:
        self._origins = origins

    def __enter__(self) -> None:
        # no generator: every pass comes here for every value
        self._token = _inherited.set(union(self._origins, _inherited.get()))

    def __exit__(self, *problem: object) -> None:
        _inherited.reset(self._token)


@contextmanager
def inside(module: str) -> Iterator[None]:
    """Let every node made inside know the module that makes it."""
    token = _module.set(module)
    try:
        yield
    finally:
        _module.reset(token)


def module_of(origins: Origins) -> str:
    """Give the module that made a value first, or nothing."""
    return origins[0].module if origins else ""


def source_line(origin: Origin) -> str:
    """Give the text of the user's line, or nothing when the source cannot be read."""
    return linecache.getline(origin.file, origin.line).strip()


def place(origin: Origin) -> str:
    """Name the line, and the module where there is one: `train.py:12 in MLP/0`."""
    where = f"{os.path.basename(origin.file)}:{origin.line}"
    return f"{where} in {origin.module}" if origin.module else where


def describe(origin: Origin) -> str:
    """Say where: `train.py:12   h = x @ W`."""
    text = source_line(origin)
    if len(text) > 60:
        text = text[:57] + "..."
    return f"{place(origin)}   {text}" if text else place(origin)


def assigned_name(origins: Origins) -> str | None:
    """Guess the user's name for a value from the line that made it: `h = x @ W` gives `h`."""
    if not origins:
        return None
    found = re.match(r"([A-Za-z_][\w.]*)\s*(?::[^=]+)?=(?!=)", source_line(origins[0]))
    return found.group(1) if found else None
