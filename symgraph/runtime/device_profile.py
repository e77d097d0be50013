"""`f.profile(...)` of a function on a device: its steps one by one, by the device's own clock.

Peaks are those of whatever computes products there, and of its copies; they are measured once in a
process. Steps that write over variables do so, and what they wrote over is put back.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping

import numpy as np

from symgraph.backends.cuda.device import Device
from symgraph.cost.table import made_at
from symgraph.dims import Dim
from symgraph.errors import BackendError
from symgraph.graph.dtypes import DType, numpy_dtype
from symgraph.graph.graph import Graph
from symgraph.graph.leaves import tensor
from symgraph.graph.node import Value
from symgraph.graph.op import Array
from symgraph.interrupts import held_interrupt
from symgraph.lower.plan import CallStep, CheckStep
from symgraph.runtime.attribution import Attribution
from symgraph.runtime.calibrate import ENOUGH, Peaks
from symgraph.runtime.device import DeviceExecutor
from symgraph.runtime.explain import explained
from symgraph.runtime.foreign import plain
from symgraph.runtime.profile import GENERATED, Profile, Row, require_repeat

SIDE, LARGEST_SIDE = 128, 8192  # of the square matrices
COPIED, LARGEST_COPIED = 1 << 20, 1 << 28  # bytes
RUNS = 5
HALVES = ("bfloat16", "float16")
_known: dict[tuple[str, bool], Peaks] = {}


def device_profile(
    name: str,
    executor: DeviceExecutor,
    feeds: Mapping[Value, Array],
    env: Mapping[Dim, int],
    repeat: int,
) -> Profile:
    """Run `repeat` times, after once that does not count; variables stay as they are."""
    require_repeat(name, repeat)
    arrays = [plain(feeds[one]) for one in executor.graph.inputs]
    with held_interrupt(), executor.device.lock:
        machine = device_peaks(executor.device, executor.precision)
        bound = executor.bound(env)
        taken = bound.timed(arrays, repeat)
    if taken is None:
        given = executor.on_host(feeds)
        explained(executor.graph, given, env, executor.guard)  # raises what a call would
        raise BackendError(f"{name}: a check failed: there is nothing to time.")
    known = Attribution(bound.plan)
    rows = []
    for place, step in enumerate(bound.plan.steps):
        seconds = statistics.median(taken[place])
        flops, moved = known.flops(step, env), known.nbytes(step, env)
        values = tuple(known.owners(step))
        line = next((made_at(value) for value in values if value.origins), "")
        kind, implementation = "float32", GENERATED
        if isinstance(step, CheckStep):
            implementation = "check"
        elif isinstance(step, CallStep):
            done = bound.inner.get(place) or bound.routines.get(place)
            first = [one.buffer.dtype for one in step.call.sources[:1] if place not in bound.inner]
            kind = "bfloat16" if first and first[0] in HALVES else "float32"
            implementation = "nothing" if done is None else done.implementation
        least = machine.least(flops, moved, kind)
        title = step.name if isinstance(step, CallStep) else ", ".join(known.operations(step))
        rows.append(
            Row(title or step.name, implementation, seconds, least, flops, moved, line, values)
        )
    return Profile(name, executor.device.name, tuple(rows), repeat, machine)


def device_peaks(device: Device, precision: str = "fp32") -> Peaks:
    """Give what a device can do, measured the first time that it is asked.

    Products of float32 are those of the precision; of halves, bfloat16 stands for both.
    """
    key = device.name, precision == "tf32"
    if key not in _known:
        single, how = _products(device, "float32", precision)
        half, how_half = _products(device, "bfloat16", precision)
        size, seconds = COPIED, _copy(device, COPIED)
        while seconds < ENOUGH and size < LARGEST_COPIED:
            size *= 4
            seconds = _copy(device, size)
        _known[key] = Peaks(
            single, half, 2 * size / seconds,
            {"float32": how, "bfloat16": how_half, "bandwidth": "a copy"},
        )  # fmt: skip
    return _known[key]


def _products(device: Device, dtype: DType, precision: str) -> tuple[float, str]:
    """Give FLOPs a second of products of square matrices, and what computes them."""
    side = SIDE
    while True:
        x, y = (tensor(name, (side, side), dtype) for name in "xy")
        executor = DeviceExecutor(Graph([x, y], [x @ y]), device, precision)
        one = np.ones((side, side), numpy_dtype(dtype))
        bound = executor.bound({})
        seconds = sum(min(each) for each in bound.timed([one, one], RUNS) or ())
        if seconds >= ENOUGH or 2 * side > LARGEST_SIDE:
            names = [one.implementation for one in bound.routines.values()] or [GENERATED]
            return 2.0 * side**3 / max(seconds, 1e-9), f"{names[0]}, {side} x {side}"
        side *= 2


def _copy(device: Device, size: int) -> float:
    first, second = device.reserve(size), device.reserve(size)
    taken = [
        device.seconds(lambda: device.copy(second.address, first.address, size))
        for _ in range(RUNS)
    ]
    return max(min(taken), 1e-9)
