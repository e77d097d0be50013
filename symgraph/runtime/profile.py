"""`f.profile(...)`: where the time of a call goes, step by step, beside what would be possible.

A step of a compiled function is timed by running its record alone; on the reference it is the time
between two values. A step takes at least the time of its FLOPs at the peak of products, and of the
bytes of its operands, each moved once, at the bandwidth of a copy: the roofline. What comes out of
a cache can be faster than that.
"""

from __future__ import annotations

import json
import os
import secrets
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from symgraph.backends.cpu.driver import WORDS, driver
from symgraph.cost.flops import node_flops
from symgraph.cost.liveness import tensor_types
from symgraph.cost.table import aligned, made_at
from symgraph.cost.units import number_text, seconds_text
from symgraph.dims import Dim, total
from symgraph.errors import ArgumentError, BackendError, PassError
from symgraph.frozen import frozen
from symgraph.graph.graph import Graph
from symgraph.graph.interpret import interpret
from symgraph.graph.node import Value
from symgraph.graph.op import Array
from symgraph.lower.plan import CallStep, CheckStep, Step
from symgraph.lower.program import nbytes, number
from symgraph.runtime.attribution import Attribution
from symgraph.runtime.calibrate import Peaks, peaks
from symgraph.runtime.commit import unchanged
from symgraph.runtime.interpreted import InterpretedExecutor
from symgraph.runtime.native import BoundPlan, NativeExecutor

MOST_ROWS = 25  # of the table; the rest are one line
WIDEST = 36  # characters of a step's name
GENERATED = "generated kernel"


@frozen
class Row:
    """One step: what ran, the median of its seconds, and the least that the machine needs.

    `name` lists the operations that it computes, `implementation` is "generated kernel" or the
    library's name of what it ran. `values` are those of the graph that the step computes, `line`
    says where the first of them was made.
    """

    name: str
    implementation: str
    seconds: float
    predicted: float
    flops: int
    bytes: int
    line: str = ""
    values: tuple[Value, ...] = ()

    @property
    def fraction(self) -> float:
        """The part of the roofline that is reached: 1 where nothing could be faster."""
        return self.predicted / self.seconds if self.seconds else 0.0


@frozen(eq=False)
class Profile:
    """The steps of a call in the order in which they ran; print it for a table by time."""

    name: str
    backend: str
    rows: tuple[Row, ...]
    repeat: int
    peaks: Peaks

    @property
    def total(self) -> float:
        """The seconds of all steps."""
        return sum(row.seconds for row in self.rows)

    def __str__(self) -> str:
        whole = self.total or 1.0
        ranked = sorted(self.rows, key=lambda row: -row.seconds)
        cells = [("step", "runs as", "time", "share", "of roofline", "FLOPs", "bytes", "made at")]
        cells += [
            (
                row.name if len(row.name) <= WIDEST else f"{row.name[: WIDEST - 3]}...",
                row.implementation,
                seconds_text(row.seconds),
                f"{row.seconds / whole:.1%}",
                f"{row.fraction:.0%}",
                number_text(row.flops),
                number_text(row.bytes, "B"),
                row.line,
            )
            for row in ranked[:MOST_ROWS]
        ]
        rest = ranked[MOST_ROWS:]
        if rest:
            seconds = sum(row.seconds for row in rest)
            share = f"{seconds / whole:.1%}"
            cells.append((f"{len(rest)} others", "", seconds_text(seconds), share, "", "", "", ""))
        least = sum(row.predicted for row in self.rows)
        flops, moved = sum(row.flops for row in self.rows), sum(row.bytes for row in self.rows)
        cells.append(
            (
                "total", "", seconds_text(self.total), "", f"{least / whole:.0%}",
                number_text(flops), number_text(moved, "B"), "",
            )
        )  # fmt: skip
        machine = (
            f"peaks: {number_text(round(self.peaks.float32))}FLOP/s float32, "
            f"{number_text(round(self.peaks.bfloat16))}FLOP/s bfloat16, "
            f"{number_text(round(self.peaks.bandwidth), 'B')}/s copied"
        )
        title = f"profile of {self.name} on {self.backend}, median of {self.repeat}"
        return "\n".join([title, *aligned(cells), machine])

    def __repr__(self) -> str:
        return f"<profile of {self.name}: {len(self.rows)} steps, {seconds_text(self.total)}>"

    def trace(self, path: str | os.PathLike[str]) -> Path:
        """Write a trace for Perfetto (ui.perfetto.dev) or chrome://tracing; give its path.

        The file is written under another name and renamed. Raises `ArgumentError` where it cannot
        be written.
        """
        events: list[dict[str, Any]] = [
            {"name": "process_name", "ph": "M", "pid": 1, "args": {"name": f"{self.name}"}},
            {"name": "thread_name", "ph": "M", "pid": 1, "tid": 1, "args": {"name": self.backend}},
        ]
        start = 0.0
        for row in self.rows:
            about = {
                "runs as": row.implementation,
                "FLOPs": row.flops,
                "bytes": row.bytes,
                "least microseconds": 1e6 * row.predicted,
                "made at": row.line,
            }
            events.append(
                {
                    "name": row.name, "cat": "step", "ph": "X", "pid": 1, "tid": 1,
                    "ts": 1e6 * start, "dur": 1e6 * row.seconds, "args": about,
                }
            )  # fmt: skip
            start += row.seconds
        return _write(path, json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}))


def _write(path: str | os.PathLike[str], text: str) -> Path:
    try:
        target = Path(path)
        partial = target.with_name(f".{target.name}.{secrets.token_hex(6)}.partial")
    except (TypeError, ValueError):
        raise ArgumentError(
            f"trace: {path!r:.80} is no name of a file.", fix='profile.trace("step.json")'
        ) from None
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(target)
    except (OSError, ValueError) as problem:  # ValueError: a null character
        raise ArgumentError(
            f"trace: {target!s:.80} cannot be written: "
            f"{getattr(problem, 'strerror', None) or problem}.",
            fix="choose a folder that is there and that you may write to",
        ) from None
    finally:
        with suppress(OSError, ValueError):
            partial.unlink()
    return target


def require_repeat(name: str, repeat: int) -> None:
    """Raise `ArgumentError` unless `repeat` counts runs."""
    if not isinstance(repeat, int) or isinstance(repeat, bool) or repeat < 1:
        raise ArgumentError(
            f"{name}: repeat must be an int >= 1, got {repeat!r:.60}.", fix="repeat=3"
        )


def profile(
    name: str,
    executor: NativeExecutor | InterpretedExecutor,
    feeds: Mapping[Value, Array],
    env: Mapping[Dim, int],
    repeat: int,
) -> Profile:
    """Run `repeat` times, after once that does not count; shared variables stay as they are."""
    require_repeat(name, repeat)
    machine = peaks()
    if isinstance(executor, InterpretedExecutor):
        rows = _interpreted(executor.graph, feeds, env, repeat, machine)
    else:
        rows = _native(executor, feeds, env, repeat, machine)
    return Profile(name, executor.name, tuple(rows), repeat, machine)


# -- compiled --------------------------------------------------------------------------------------


def _native(
    executor: NativeExecutor,
    feeds: Mapping[Value, Array],
    env: Mapping[Dim, int],
    repeat: int,
    machine: Peaks,
) -> list[Row]:
    bound = executor.bound(env)
    count = len(bound.records)
    taken: list[list[float]] = [[] for _ in range(count)]
    nothing = _seconds_of_nothing()

    def one_by_one(address: int, records: int) -> int:
        run, clock = driver().run, time.perf_counter
        for record in range(records):
            begin = clock()
            failed = run(address + 8 * WORDS * record, 1)
            taken[record].append(max(clock() - begin - nothing, 0.0))
            if failed:
                return record + 1
        return 0

    for _ in range(repeat + 1):
        stepwise(executor, env, feeds, one_by_one)
    # a NaN guard that finds infinities ends the call early, and lets the reference decide
    seconds = [statistics.median(each[1:]) if len(each) > 1 else 0.0 for each in taken]
    return [
        _row(about, bound, each, machine)
        for about, each in zip(_abouts(bound, env), seconds, strict=True)
    ]


def stepwise(
    executor: NativeExecutor,
    env: Mapping[Dim, int],
    feeds: Mapping[Value, Array],
    run: Callable[[int, int], int],
) -> None:
    """Make a call whose records are run by `run`: (address, count) -> 0, or 1 + what failed.

    Shared variables are the same afterwards.
    """
    bound = executor.bound(env)
    usual, bound.seen = bound.driver, []  # nothing is left out
    with unchanged(executor.graph.shared):
        bound.driver = run  # type: ignore[assignment]
        try:
            executor.run(feeds, env)
        finally:
            bound.driver, bound.seen = usual, []


def records_of(bound: BoundPlan, step: Step) -> list[str]:
    """Give by what each record of a step is computed, in their order."""
    if isinstance(step, CheckStep):
        return ["check"]
    if not isinstance(step, CallStep):
        return [GENERATED]
    prepared = bound._prepared(step)
    calls = [use.primitive.implementation for use in prepared.uses]
    return [*(["clear"] if prepared.clear else []), *calls]


def _seconds_of_nothing() -> float:
    """Give what it costs to call the driver from Python."""
    run, taken = driver().run, []
    for _ in range(100):
        begin = time.perf_counter()
        run(0, 0)
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


@frozen
class _About:
    """What is known of a record before it runs."""

    name: str
    implementation: str
    flops: int = 0
    bytes: int = 0
    dtype: str = "float32"
    values: tuple[Value, ...] = ()


def _row(about: _About, bound: BoundPlan, seconds: float, machine: Peaks) -> Row:
    line = next((made_at(value) for value in about.values if value.origins), "")
    least = machine.least(about.flops, about.bytes, about.dtype)
    return Row(
        about.name, about.implementation, seconds, least, about.flops, about.bytes, line,
        about.values,
    )  # fmt: skip


def _abouts(bound: BoundPlan, env: Mapping[Dim, int]) -> list[_About]:
    """Tell what each record of a bound plan is."""
    known = Attribution(bound.plan)
    found: list[_About] = []
    for step in bound.plan.steps:
        values = tuple(known.owners(step))
        if isinstance(step, CallStep):
            found.extend(_library(step, bound, known, env, values))
        elif isinstance(step, CheckStep):
            found.append(_About("check", "check", 0, 1, values=values))
        else:
            dtype = _dtype(step)
            flops, moved = known.flops(step, env), known.nbytes(step, env)
            name = ", ".join(known.operations(step)) or step.name
            found.append(_About(name, GENERATED, flops, moved, dtype, values))
    for shared, new in bound.copies:
        moved = 2 * number(nbytes(new), env)
        found.append(_About("write", "copy", 0, moved, values=(shared,)))
    if len(found) != len(bound.records):
        raise BackendError("profile: the records of the plan are others than its steps.")
    return found


def _dtype(step: Step) -> str:
    """Give the dtype whose peak a generated kernel can reach; it computes in 32 bits or in 64."""
    return "float64" if any(one.dtype == "float64" for one in step.writes) else "float32"


def _library(
    step: CallStep,
    bound: BoundPlan,
    known: Attribution,
    env: Mapping[Dim, int],
    values: tuple[Value, ...],
) -> list[_About]:
    prepared = bound._prepared(step)
    found = []
    if prepared.clear:
        size = number(nbytes(step.call.writes[0]), env)
        found.append(_About(step.name, "clear", 0, size, values=values))
    for use in prepared.uses:
        made = use.primitive
        own = {role: one for role, one in made.arguments.items() if role != "scratchpad"}
        moved = sum(one.size for one in own.values())
        reorder = made.name == "reorder"
        flops = 0 if reorder else known.flops(step, env)
        name = f"{step.name}: reorder" if reorder else step.name
        dtypes = {one.dtype for role, one in own.items() if role in ("src", "weights", "diff_dst")}
        dtype = dtypes.pop() if len(dtypes) == 1 else "float32"
        found.append(_About(name, made.implementation, flops, moved, dtype, values))
    return found


# -- the reference ---------------------------------------------------------------------------------


def _interpreted(
    graph: Graph,
    feeds: Mapping[Value, Array],
    env: Mapping[Dim, int],
    repeat: int,
    machine: Peaks,
) -> list[Row]:
    taken: dict[Value, list[float]] = {value: [] for value in graph.values}
    last = time.perf_counter()

    def watch(value: Value, result: Array) -> None:
        nonlocal last
        taken[value].append(time.perf_counter() - last)
        last = time.perf_counter()

    env = dict(env)  # and the sizes that data decide
    for _ in range(repeat + 1):
        last = time.perf_counter()
        interpret(
            graph.roots, feeds, env, watch=watch, order=graph.values, measured=graph.sizes,
            bound=env.__setitem__,
        )  # fmt: skip
    rows = []
    for value, times in taken.items():
        if value.op.leaf:
            continue
        flops, moved = _cost(value, env)
        least = machine.least(flops, moved, value.tensor.dtype if _plain(value) else "float32")
        seconds = statistics.median(times[1:])
        line = made_at(value)
        rows.append(Row(value.op.name, "NumPy", seconds, least, flops, moved, line, (value,)))
    return rows


def _plain(value: Value) -> bool:
    return len(tensor_types(value.type)) == 1


def _cost(value: Value, env: Mapping[Dim, int]) -> tuple[int, int]:
    """Give FLOPs and bytes of a value; nothing of what is a view, or counts as `sg.cost` cannot."""
    if value.op.view:
        return 0, 0
    try:
        flops = number(node_flops(value), env)
    except PassError:  # an operation without `expand`
        flops = 0
    types: Sequence[Any] = [one.tensor for one in dict.fromkeys(value.inputs)]
    moved = total(one.nbytes for one in (*types, *tensor_types(value.type)))
    return flops, number(moved, env)
