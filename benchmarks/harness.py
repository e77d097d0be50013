"""What every benchmark shares: fair turns, checked results, one table and one JSON line.

Contestants take turns within a round, and the first of a round changes, so that a slow minute of
the machine is shared. Ratios are taken round by round; their spread is that of the rounds. A result
is checked before anything is timed. A contestant waits for its own device within its time.
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from symgraph._version import __version__
from symgraph.config import usable_cores
from symgraph.doctor import cpu_model

VERSIONS = (
    "numpy", "networkx", "ml_dtypes", "llvmlite", "onednn-cpu-gomp", "torch", "triton", "jax",
    "pytensor", "cupy-cuda12x", "cupy-cuda13x", "nvidia-cudnn-frontend", "nvidia-cudnn-cu13",
)  # fmt: skip
FLAGS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE", "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS", "GLIBC_TUNABLES", "THP_MEM_ALLOC_ENABLE", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip


TRIES = 3  # runs that decide whether a peer is worth racing
QUIET = 0.06  # of the cores' time may others use before a note says so


@dataclass(frozen=True)
class Contestant:
    """One way to do the work. With `own_clock`, `run` returns the seconds that it measured.

    `check` gives the result to be checked, where `run` gives another one or none; it leaves the
    contestant as it found it. `wait` waits for a device, where `run` only gives it work.
    """

    name: str
    run: Callable[[], Any]
    own_clock: bool = False
    check: Callable[[], Any] | None = None
    wait: Callable[[], Any] = lambda: None

    def result(self) -> Any:
        """Give what is compared with the reference."""
        return (self.check or self.run)()

    def seconds(self) -> float:
        """Run once and give the time it took."""
        start = time.perf_counter()
        result = self.run()
        self.wait()
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
    chosen: argparse.Namespace = field(default_factory=argparse.Namespace)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    taken: dict[str, list[float]] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)  # what else there is to say of the machine
    helpers: Callable[[], float] = lambda: 0.0  # seconds that cores worked for living helpers

    def times(self, contestants: Sequence[Contestant]) -> dict[str, list[float]]:
        """Time all contestants, interleaved; give the seconds of every round.

        A note says so if other processes kept the cores busy meanwhile.
        """
        names = [contestant.name for contestant in contestants]
        if len(set(names)) < len(names):
            raise ValueError(f"contestants need names of their own: {names}")
        for contestant in contestants:
            for _ in range(self.warmup):
                contestant.seconds()
        taken: dict[str, list[float]] = {name: [] for name in names}
        begin, others = time.perf_counter(), _seconds_of_others() - self.helpers()
        for number in range(self.rounds):
            first = number % len(contestants)
            for contestant in [*contestants[first:], *contestants[:first]]:
                taken[contestant.name].append(contestant.seconds())
        available = (time.perf_counter() - begin) * (os.cpu_count() or 1)
        share = (_seconds_of_others() - self.helpers() - others) / available
        if share > QUIET:
            listed = ", ".join(names)
            self.notes.append(f"others used {share:.0%} of the cores in the rounds of {listed}")
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
        within: float | None = None,
    ) -> Row:
        """Race `ours` against the fastest of `peers`, after checking all results.

        Results are compared with `reference`, or with the first peer's if it is None. Raises
        `ArithmeticError` if one is further off than `tolerance`: a wrong answer has no speed.
        With `within`, peers whose best of a few runs took more than that many times the best
        peer's do not enter the rounds, and a note says so. The seconds of ours in each round are
        kept in `taken`, by case.
        """
        if reference is None:
            reference = peers[0].result()
        error = _checked(case, ours, reference, tolerance)
        peers = [peer for peer in peers if self.admits(case, peer, reference, tolerance)]
        if not peers:
            raise ArithmeticError(f"{case}: there is nobody to race against")
        if within is not None:
            peers = self._shortlist(case, peers, within)
        taken = self.times([ours, *peers])
        self.taken[case] = taken[ours.name]
        if ours.name.endswith(" reference"):
            self.notes.append(f"{case}: {ours.name} ran, which is not made to be fast")
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
                error,
                best.name,
            )
        )

    def admits(self, case: str, peer: Contestant, reference: Any, tolerance: float) -> bool:
        """Tell whether a peer may race; raises `ArithmeticError` where its result is wrong."""
        _checked(case, peer, reference, tolerance)
        return True

    def _shortlist(
        self, case: str, peers: Sequence[Contestant], within: float
    ) -> Sequence[Contestant]:
        for peer in peers:
            peer.seconds()  # may still compile
        runs = [{peer.name: peer.seconds() for peer in peers} for _ in range(TRIES)]
        tried = {peer.name: min(run[peer.name] for run in runs) for peer in peers}
        best = min(tried.values())
        slow = {name: seconds for name, seconds in tried.items() if seconds > within * best}
        if slow:
            listed = ", ".join(f"{name} ({seconds:.3g} s)" for name, seconds in slow.items())
            self.notes.append(f"{case}: tried, and too slow to race: {listed}; best {best:.3g} s")
        return [peer for peer in peers if peer.name not in slow]

    def leave_out(self, case: str, reason: str) -> None:
        """Say that a row cannot be measured, and why; with `--strict` that is a missed target."""
        self.left_out.append(f"{case}: {reason}")

    def limit(
        self,
        case: str,
        measured: Sequence[float],
        limit: float,
        unit: str = "s",
        error: float | None = None,
    ) -> Row:
        """Hold what was measured against an upper limit: the ratio is limit / ours."""
        ours = statistics.median(measured)
        ratios = [limit / value for value in measured]
        return self.add(
            Row(case, ours, limit, unit, limit / ours, spread(ratios), 1.0, error, "limit")
        )

    def ceiling(
        self,
        case: str,
        measured: Sequence[float],
        ceiling: float,
        target: float,
        unit: str,
        error: float | None = None,
    ) -> Row:
        """Hold a rate against what the machine could do: the ratio is ours / ceiling, below 1."""
        ours = statistics.median(measured)
        ratios = [value / ceiling for value in measured]
        return self.add(
            Row(case, ours, ceiling, unit, ours / ceiling, spread(ratios), target, error, "ceiling")
        )

    def add(self, row: Row) -> Row:
        """Keep a row and give it back; it is said at once, since a run takes minutes."""
        self.rows.append(row)
        told = f"{row.case}: {row.ours:.4g} {row.unit}, ratio {row.ratio:.2f}"
        print(told, file=sys.stderr, flush=True)
        return row

    def line(self) -> str:
        """Give what is known so far as one JSON object."""
        machine = {**_machine(), **self.facts, "versions": _versions(), "flags": _flags()}
        known = {"benchmark": self.name, "quick": self.quick, "machine": machine}
        rows = [asdict(row) for row in self.rows]
        return json.dumps({**known, "rows": rows, "left_out": self.left_out, "notes": self.notes})

    def finish(self) -> int:
        """Print versions, the table and the JSON line; give the exit status of the script.

        A missed target fails only with `--strict`: another machine has other times.
        """
        print(f"{self.name}{' (quick: a smoke run, not a measurement)' if self.quick else ''}")
        for name, value in {**_machine(), **self.facts, **_versions(), **_flags()}.items():
            print(f"  {name}: {value}")
        print()
        print(table(self.rows))
        for note in self.notes:
            print(f"note: {note}")
        for missing in self.left_out:
            print(f"left out: {missing}")
        print(self.line())
        return int(self.strict and not (all(row.met for row in self.rows) and not self.left_out))


def start(
    name: str,
    description: str | None,
    *,
    rounds: int = 15,
    warmup: int = 2,
    options: Callable[[argparse.ArgumentParser], None] | None = None,
) -> Benchmark:
    """Read the command line that all benchmarks share; `options` adds to it, see `chosen`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run of a few seconds")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument("--rounds", type=int, default=rounds, help="timed rounds (%(default)s)")
    if options is not None:
        options(parser)
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("--rounds must be at least 1")
    if given.quick:
        rounds, warmup = min(3, given.rounds), 1
    else:
        rounds = given.rounds
    return Benchmark(name, given.quick, given.strict, rounds, warmup, chosen=given)


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Give the 10th and 90th percentile."""
    low, high = np.percentile(np.asarray(values, dtype=np.float64), [10, 90])
    return float(low), float(high)


def repeated(contestant: Contestant, times: int) -> Contestant:
    """Make a contestant that runs so often, waits once and gives the mean time: for short work."""

    def run() -> float:
        begin = time.perf_counter()
        for _ in range(times):
            contestant.run()
        contestant.wait()
        return (time.perf_counter() - begin) / times

    return Contestant(contestant.name, run, True, contestant.check or contestant.run)


def relative_error(result: Any, reference: Any) -> float:
    """Give the largest |result - reference|, divided by the largest |reference|.

    Of mappings (gradients by name) it is the largest ratio of norms, ||result - reference|| to
    ||reference||, of an entry: single elements say little next to a kink. Raises `ArithmeticError`
    where shapes or names differ or where only one of the two is finite.
    """
    if isinstance(reference, Mapping):
        if not isinstance(result, Mapping) or result.keys() != reference.keys():
            raise ArithmeticError(f"not the entries {', '.join(map(str, reference))}")
        norm = lambda array: float(np.linalg.norm(array))
        return max((_ratio(result[key], reference[key], norm) for key in reference), default=0.0)
    return _ratio(result, reference, lambda array: float(np.abs(array).max()))


def _ratio(result: Any, reference: Any, size: Callable[[Any], float]) -> float:
    result, reference = (np.asarray(each, dtype=np.float64) for each in (result, reference))
    if result.shape != reference.shape:
        raise ArithmeticError(f"shape {result.shape} instead of {reference.shape}")
    finite = np.isfinite(reference)
    if not np.array_equal(finite, np.isfinite(result)):
        raise ArithmeticError("infinities or NaNs in other places")
    if not finite.any():
        return 0.0
    if finite.all():  # no copies of what may be large
        finite = np.s_[...]
    return size(result[finite] - reference[finite]) / (size(reference[finite]) or 1.0)


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
        error = relative_error(contestant.result(), reference)
    except ArithmeticError as problem:
        raise ArithmeticError(f"{case}: {contestant.name}: {problem}") from None
    if not error <= tolerance:
        raise ArithmeticError(f"{case}: {contestant.name}: error {error:.1e} > {tolerance:.1e}")
    return error


def _seconds_of_others() -> float:
    """Give the seconds that cores have worked for other processes; 0 where nobody counts them."""
    with contextlib.suppress(OSError, ValueError):
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, _, _, *rest = map(int, file.readline().split()[1:9])
        busy = (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")
        return busy - sum(os.times()[:4])  # this process and what it has waited for
    return 0.0


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
