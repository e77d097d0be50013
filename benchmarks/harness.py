"""What every benchmark shares: fair turns, checked results, one table and one JSON line.

Contestants take turns within a round, and the first of a round changes, so that a slow minute of
the machine is shared. Ratios are taken round by round; their spread is that of the rounds. A result
is checked before anything is timed. A contestant waits for its own device before it returns.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from symgraph._version import __version__
from symgraph.doctor import cpu_model, usable_cores

VERSIONS = ("numpy", "networkx", "ml_dtypes", "torch", "jax", "pytensor", "cupy-cuda12x")
FLAGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "GLIBC_TUNABLES",
         "THP_MEM_ALLOC_ENABLE", "CUDA_VISIBLE_DEVICES")  # fmt: skip


@dataclass(frozen=True)
class Contestant:
    """One way to do the work. With `own_clock`, `run` returns the seconds that it measured."""

    name: str
    run: Callable[[], Any]
    own_clock: bool = False

    def seconds(self) -> float:
        """Run once and give the time it took."""
        start = time.perf_counter()
        result = self.run()
        return float(result) if self.own_clock else time.perf_counter() - start


@dataclass(frozen=True)
class Row:
    """One line of the result. `ratio` > 1 means that symgraph is better than peer or limit."""

    case: str
    ours: float
    peer: float
    unit: str
    ratio: float
    spread: tuple[float, float]
    target: float
    error: float | None = None
    versus: str = ""

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        return self.ratio >= self.target


@dataclass
class Benchmark:
    """Collects rows, then prints them; made by `start`, from the command line."""

    name: str
    quick: bool = False
    strict: bool = False
    rounds: int = 15
    warmup: int = 2
    rows: list[Row] = field(default_factory=list)

    def times(self, contestants: Sequence[Contestant]) -> dict[str, list[float]]:
        """Time all contestants, interleaved; give the seconds of every round."""
        names = [contestant.name for contestant in contestants]
        if len(set(names)) < len(names):
            raise ValueError(f"contestants need names of their own: {names}")
        for contestant in contestants:
            for _ in range(self.warmup):
                contestant.seconds()
        taken: dict[str, list[float]] = {name: [] for name in names}
        for number in range(self.rounds):
            first = number % len(contestants)
            for contestant in [*contestants[first:], *contestants[:first]]:
                taken[contestant.name].append(contestant.seconds())
        return taken

    def compare(
        self,
        case: str,
        ours: Contestant,
        peers: Sequence[Contestant],
        *,
        target: float,
        reference: Any = None,
        tolerance: float = 0.0,
    ) -> Row:
        """Race `ours` against the fastest of `peers`, after checking all results.

        Results are compared with `reference`, or with the first peer's if it is None. Raises
        `ArithmeticError` if one is further off than `tolerance`: a wrong answer has no speed.
        """
        if reference is None:
            reference = peers[0].run()
        errors = [_checked(case, each, reference, tolerance) for each in (ours, *peers)]
        taken = self.times([ours, *peers])
        best = min(peers, key=lambda peer: statistics.median(taken[peer.name]))
        ratios = [peer / own for peer, own in zip(taken[best.name], taken[ours.name], strict=True)]
        return self.add(
            Row(
                case,
                statistics.median(taken[ours.name]),
                statistics.median(taken[best.name]),
                "s",
                statistics.median(ratios),
                spread(ratios),
                target,
                errors[0],
                best.name,
            )
        )

    def limit(self, case: str, measured: Sequence[float], limit: float, unit: str = "s") -> Row:
        """Hold what was measured against an upper limit: the ratio is limit / ours."""
        ours = statistics.median(measured)
        ratios = [limit / value for value in measured]
        return self.add(
            Row(case, ours, limit, unit, limit / ours, spread(ratios), 1.0, versus="limit")
        )

    def ceiling(
        self, case: str, measured: Sequence[float], ceiling: float, target: float, unit: str
    ) -> Row:
        """Hold a rate against what the machine could do: the ratio is ours / ceiling, below 1."""
        ours = statistics.median(measured)
        ratios = [value / ceiling for value in measured]
        return self.add(
            Row(case, ours, ceiling, unit, ours / ceiling, spread(ratios), target, versus="ceiling")
        )

    def add(self, row: Row) -> Row:
        """Keep a row and give it back."""
        self.rows.append(row)
        return row

    def finish(self) -> int:
        """Print versions, the table and the JSON line; give the exit status of the script.

        A missed target fails only with `--strict`: another machine has other times.
        """
        print(f"{self.name}{' (quick: a smoke run, not a measurement)' if self.quick else ''}")
        for name, value in {**_machine(), **_versions(), **_flags()}.items():
            print(f"  {name}: {value}")
        print()
        print(table(self.rows))
        print(
            json.dumps(
                {
                    "benchmark": self.name,
                    "quick": self.quick,
                    "machine": {**_machine(), "versions": _versions(), "flags": _flags()},
                    "rows": [asdict(row) for row in self.rows],
                }
            )
        )
        return int(self.strict and not all(row.met for row in self.rows))


def start(name: str, description: str | None, *, rounds: int = 15, warmup: int = 2) -> Benchmark:
    """Read the command line that all benchmarks share."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run of a few seconds")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument("--rounds", type=int, default=rounds, help="timed rounds (%(default)s)")
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("--rounds must be at least 1")
    if given.quick:
        return Benchmark(name, True, given.strict, rounds=min(3, given.rounds), warmup=1)
    return Benchmark(name, False, given.strict, rounds=given.rounds, warmup=warmup)


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Give the 10th and 90th percentile."""
    low, high = np.percentile(np.asarray(values, dtype=np.float64), [10, 90])
    return float(low), float(high)


def relative_error(result: Any, reference: Any) -> float:
    """Give the largest |result - reference|, divided by the largest |reference|.

    Raises `ArithmeticError` where shapes differ or where only one of the two is finite.
    """
    result, reference = (np.asarray(each, dtype=np.float64) for each in (result, reference))
    if result.shape != reference.shape:
        raise ArithmeticError(f"shape {result.shape} instead of {reference.shape}")
    finite = np.isfinite(reference)
    if not np.array_equal(finite, np.isfinite(result)):
        raise ArithmeticError("infinities or NaNs in other places")
    if not finite.any():
        return 0.0
    scale = float(np.abs(reference[finite]).max()) or 1.0
    return float(np.abs(result[finite] - reference[finite]).max()) / scale


def table(rows: Sequence[Row]) -> str:
    """Lay the rows out for people."""
    header = ("case", "ours", "versus", "", "ratio", "10..90 %", "target", "error")
    cells = [header] + [
        (
            row.case,
            f"{row.ours:.4g} {row.unit}",
            row.versus,
            f"{row.peer:.4g} {row.unit}",
            f"{row.ratio:.2f}",
            f"{row.spread[0]:.2f}..{row.spread[1]:.2f}",
            f"{row.target:.2f}{'' if row.met else ' missed'}",
            "" if row.error is None else f"{row.error:.1e}",
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def _checked(case: str, contestant: Contestant, reference: Any, tolerance: float) -> float:
    try:
        error = relative_error(contestant.run(), reference)
    except ArithmeticError as problem:
        raise ArithmeticError(f"{case}: {contestant.name}: {problem}") from None
    if not error <= tolerance:
        raise ArithmeticError(f"{case}: {contestant.name}: error {error:.1e} > {tolerance:.1e}")
    return error


def _machine() -> dict[str, Any]:
    return {
        "cpu": cpu_model(),
        "threads": usable_cores(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": sys.version.split()[0],
    }


def _versions() -> dict[str, str]:
    found = {"symgraph": __version__}
    for name in VERSIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _flags() -> dict[str, str]:
    return {name: os.environ[name] for name in FLAGS if name in os.environ}
