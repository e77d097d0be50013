"""Runs random programs in a process of their own, with a limit of time: they may crash or hang."""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import symgraph as sg
from tests.lower.cuda_host import precompiled_shim
from tests.random_checks import DifferenceError, check
from tests.random_shrink import Case

BACKENDS = ("cpu", "shim", "reference")
MOST = 50  # programs of one process
Says = Callable[[str], None]


@dataclass
class Outcome:
    """What became of one program: `kind` is "agreed", "wrong", "crash", "hang" or an error."""

    seed: int
    kind: str
    said: str = ""
    nodes: int = 0
    refused: dict[str, int] = field(default_factory=dict)


def run_all(seeds: Iterable[int], backend: str, limit: float) -> Iterator[Outcome]:
    """Run the programs of seeds, one after the other."""
    waiting = list(seeds)
    with tempfile.TemporaryDirectory() as folder:
        while waiting:
            part = waiting[:MOST]
            for outcome in _in_child(part, backend, limit, Path(folder), _of_seed):
                yield outcome
                waiting.pop(0)


def run_one(case: Case, backend: str, limit: float) -> Outcome:
    """Run one case."""
    with tempfile.TemporaryDirectory() as folder:
        given = _in_child([case.seed], backend, limit, Path(folder), lambda seed, says: case)
        return next(iter(list(given)))


def _of_seed(seed: int, says: Says) -> Case:
    says("draw")
    return Case.of(seed)


def _in_child(
    seeds: list[int], backend: str, limit: float, folder: Path, make: Callable[[int, Says], Case]
) -> Iterator[Outcome]:
    """Run in a forked process; it ends with the first program that crashes or hangs."""
    if backend == "shim":
        precompiled_shim()  # once, and not in each process
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _child(seeds, backend, folder, make, writing)
    os.close(writing)
    try:
        yield from _followed(seeds, child, reading, limit)
    finally:
        os.close(reading)
        if child is not None:
            _end(child)


def _followed(seeds: list[int], child: int, reading: int, limit: float) -> Iterator[Outcome]:
    rest, stage = b"", ""
    for seed in seeds:
        outcome, end = None, time.monotonic() + limit
        while outcome is None:
            left = end - time.monotonic()
            if left <= 0 or not select.select([reading], [], [], left)[0]:
                yield Outcome(seed, "hang", f"{limit:.0f} s were not enough; at: {stage}")
                return
            piece = os.read(reading, 1 << 16)
            if not piece:
                yield Outcome(seed, "crash", f"{_end(child)}; at: {stage}")
                return
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                told = json.loads(line)
                if isinstance(told, str):
                    stage = told
                else:
                    outcome = Outcome(**told)
        yield outcome


def _end(child: int) -> str:
    """End a child that may have ended, and say how it did."""
    try:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    except (ChildProcessError, ProcessLookupError):
        return "ended"
    code = os.waitstatus_to_exitcode(status)
    return f"signal {-code}" if code < 0 else f"status {code}"


def _child(seeds: list[int], backend: str, folder: Path, make: Any, writing: int) -> None:
    """Run programs, tell of each stage, and never come back."""

    def tell(what: Any) -> None:
        os.write(writing, json.dumps(what).encode() + b"\n")

    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with sg.config(cache="off"):
            name = prepared(backend, folder)
            for seed in seeds:
                tell(asdict(outcome_of(seed, partial(make, seed), name, tell)))
        status = 0
    finally:
        os._exit(status)


def outcome_of(seed: int, make: Callable[[Says], Case], backend: str, says: Says) -> Outcome:
    """Run one program in this process."""
    nodes, refused = 0, {}
    try:
        case = make(says)
        nodes, refused = len(case.program.calls), dict(case.program.refused)
        check(case.program, case.derivatives, backend, says)
    except DifferenceError as wrong:
        return Outcome(seed, "wrong", str(wrong)[:400], nodes, refused)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a find
        where = traceback.extract_tb(error.__traceback__)[-1]
        notes = " ".join(getattr(error, "__notes__", []))
        said = f"{str(error)[:300]} {notes[:200]} ({Path(where.filename).name}:{where.lineno})"
        return Outcome(seed, type(error).__name__, said, nodes, refused)
    return Outcome(seed, "agreed", "", nodes, refused)


def prepared(backend: str, folder: Path) -> str:
    """Make the backend ready in this process, and give its name for `function`."""
    if backend != "shim":
        return backend
    from tests.backends.host_device import HostDevice

    made = HostDevice(folder, f"cuda of {folder}")
    importlib.import_module("symgraph.function").device = lambda number: made  # type: ignore[attr-defined]
    return "cuda"
