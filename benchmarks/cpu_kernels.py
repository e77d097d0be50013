"""Single operations on the CPU, against the best of PyTorch, JAX and PyTensor, and the memory.

gelu(x w + b) + r with the exact gelu, softmax and layer norm of rows, a matrix turned and added to
another, and one update of 60 million parameters by SGD with momentum and decay. Each row against
the peers is followed by one that holds the bytes that must be read and written in a second against
what a copy in two threads reaches on huge pages. PyTorch runs eagerly, in place or into memory that
is kept, and compiled; JAX jitted; PyTensor by Numba and by C. The reference is float64; of the
update, the weights after one step.

    python benchmarks/cpu_kernels.py [--case gelu,softmax,layer_norm,turned,sgd]
                                     [--peers torch,jax,pytensor] [--quick]
"""

from __future__ import annotations

import argparse
import gc
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import ours
from harness import Benchmark, Contestant, start
from machine import Machine
from peers import installed, need
from peers.torch_settings import settle
from races import PEERS, WITHIN, list_of

import symgraph as sg

Array = np.ndarray[Any, Any]

#              target  rows, columns
KERNELS = {
    "gelu":       (4.0, (8192, 2048)),
    "softmax":    (1.2, (16384, 1024)),
    "layer_norm": (1.2, (16384, 1024)),
    "turned":     (1.0, (4096, 4096)),
}  # fmt: skip
PARAMETERS, SGD_TARGET = 60_000_000, 1.05
OF_BANDWIDTH = 0.75
LR, MOMENTUM, DECAY = 0.1, 0.9, 5e-4
CASES = (*KERNELS, "sgd")


def options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this script."""
    parser.add_argument("--case", type=list_of(CASES), default=CASES, help="operations")
    parser.add_argument("--peers", type=list_of(PEERS), default=PEERS, help="who races")
    parser.add_argument("--backend", help="symgraph's backend (default: the one it chooses)")


def arrays_of(case: str, shape: tuple[int, int]) -> list[Array]:
    """Draw the operands: x, then what has the size of a row, then of x."""
    rng = np.random.default_rng(5)
    shapes = {
        "gelu": (shape, shape[1:], shape[1:], shape),
        "softmax": (shape,),
        "layer_norm": (shape, shape[1:], shape[1:]),
        "turned": (shape, shape[::-1]),
    }
    return [rng.standard_normal(one, dtype=np.float32) for one in shapes[case]]


EXPRESSIONS: dict[str, Callable[..., sg.Value]] = {
    "gelu": lambda x, w, b, r: sg.gelu(x * w + b) + r,
    "softmax": lambda x: sg.softmax(x, axis=-1),
    "layer_norm": lambda x, scale, shift: sg.layer_norm(x, scale, shift, epsilon=1e-5),
    "turned": lambda x, y: x.T + y,
}


def ours_of(case: str, arrays: Sequence[Array], backend: str | None) -> Contestant:
    """Make symgraph's contestant for an operation; rows are of any number."""
    rows = {arrays[0].shape[0]: sg.dim("N")}
    symbols = [
        sg.tensor(f"a{k}", [rows.get(size, size) for size in array.shape])
        for k, array in enumerate(arrays)
    ]
    function = ours.compiled(symbols, EXPRESSIONS[case](*symbols), backend=backend, name=case)
    return Contestant(ours.called(function), lambda: function(*arrays))


def our_sgd(weight: Array, gradient: Array, backend: str | None) -> Contestant:
    """Make symgraph's contestant for an update."""
    w, g = sg.shared(weight, "w"), sg.tensor("g", gradient.shape)
    updates = sg.optim.SGD([w], LR, momentum=MOMENTUM, weight_decay=DECAY).updates(g.sum(), [g])
    step = ours.compiled([g], None, updates, backend=backend, name="update")

    def check() -> Array:
        step(gradient)
        return np.array(w.value)

    return Contestant(ours.called(step), lambda: step(gradient), check=check)


def of(peers: Sequence[str], what: str, *given: Any) -> list[Contestant]:
    """Make the contestants of all peers: `what` names a function of each peer's kernels."""
    found: list[Contestant] = []
    for peer in peers:
        if installed(peer):
            found += getattr(importlib.import_module(f"peers.{peer}_kernels"), what)(*given)
    return found


def race(
    benchmark: Benchmark,
    machine: Machine,
    case: str,
    contestants: Sequence[Contestant],
    target: float,
    moved: int,
    reference: Array,
) -> None:
    """Add the two rows of an operation: against the peers, and of copy bandwidth."""
    row = benchmark.compare(
        case, contestants[0], contestants[1:], target=target, reference=reference, tolerance=1e-5,
        within=WITHIN,
    )  # fmt: skip
    rates = [moved / seconds / 1e9 for seconds in benchmark.taken[case]]
    bandwidth = machine.copy_bandwidth() / 1e9
    text = f"{case}, of copy bandwidth"
    benchmark.ceiling(text, rates, bandwidth, OF_BANDWIDTH, "GB/s", row.error)


def main() -> int:
    """Measure, interleaved."""
    benchmark = start("cpu_kernels", __doc__, rounds=15, options=options)
    settle()
    need("torch")
    from peers import torch_kernels

    machine, chosen = Machine(benchmark.quick), benchmark.chosen
    for case, (target, shape) in KERNELS.items():
        if case not in chosen.case:
            continue
        arrays = arrays_of(case, (64, 32) if benchmark.quick else shape)
        reference = torch_kernels.exact(case, arrays)
        moved = sum(array.nbytes for array in arrays) + arrays[0].nbytes
        name = f"{case} {arrays[0].shape[0]} x {arrays[0].shape[1]} fp32"
        everybody = [
            ours_of(case, arrays, chosen.backend),
            *of(chosen.peers, "kernels", case, arrays),
        ]
        machine.copy_bandwidth()
        race(benchmark, machine, name, everybody, target, moved, reference)
        del everybody
        gc.collect()
    if "sgd" in chosen.case:
        count = 1000 if benchmark.quick else PARAMETERS
        rng = np.random.default_rng(6)
        weight, gradient = (rng.standard_normal(count, dtype=np.float32) for _ in range(2))
        wide = weight.astype(np.float64)
        reference = wide - LR * (gradient + DECAY * wide)
        everybody = [our_sgd(weight, gradient, chosen.backend)]
        everybody += of(chosen.peers, "sgd", weight, gradient, LR, MOMENTUM, DECAY)
        name = f"SGD with momentum, {count:,} parameters fp32"
        race(benchmark, machine, name, everybody, SGD_TARGET, 5 * weight.nbytes, reference)
    benchmark.notes += machine.notes.values()
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
