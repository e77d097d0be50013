"""Command lines of the tiny model for the tests of engines, and what is left after a run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from symgraph.io import latest_checkpoint, load_checkpoint

ROOT = Path(__file__).parent.parent.parent
PROGRAM = Path(__file__).with_name("engine_program.py")
FLOOR = 1e-2  # numbers below are compared absolutely: a bias before batch norm is noise around 0
LONGEST = 280.0  # seconds of a run, on a busy machine


def words(*arguments: Any) -> list[str]:
    """Give the command that trains the tiny model."""
    return [sys.executable, str(PROGRAM), "train", *map(str, arguments)]


def surroundings(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Give the environment of a run, which finds this checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}


def train(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    return subprocess.run(
        command, env=surroundings(environment), capture_output=True, text=True, timeout=LONGEST,
        check=False,
    )  # fmt: skip


def leftovers(out: Path, seconds: float = 20.0) -> list[str]:
    """Give the processes that still work for a run, after some seconds in which they may end."""
    deadline = time.monotonic() + seconds
    while (found := _processes(str(out))) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def _processes(word: str) -> list[str]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if word in line and str(PROGRAM) in line:
                found.append(f"{file.parent.name}: {line}")
    return found


def differ(one: Path, other: Path) -> float:
    """Give the largest relative difference between the newest checkpoints of two runs."""
    first, second = (load_checkpoint(latest_checkpoint(each)) for each in (one, other))
    assert first.meta["step"] == second.meta["step"]
    worst = 0.0
    for name, numbers in first.tensors.items():
        a, b = np.float64(numbers), np.float64(second.tensors[name])
        if a.size and not np.array_equal(a, b):
            worst = max(worst, float(np.abs(a - b).max() / max(np.abs(b).max(), FLOOR)))
    return worst
