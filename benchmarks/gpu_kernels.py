"""Single operations on a GPU, against the best of PyTorch and JAX, and against its memory.

Elementwise: gelu(x w + b) + r with the exact gelu, x + y, relu(x + b) over images with the channels
innermost, one update of 60 million parameters by SGD with momentum and decay. Of rows: sums,
softmax, layer norm. A matrix is turned and added to another. Sums of columns are the gradient of a
bias of AlexNet's first convolution; one case sums everything. Max pooling and AlexNet's
normalisation across channels go both ways, over images of that convolution's result. All is
float32.

Each row against the peers is followed by one that holds the bytes that must be read and written in
a second against a copy from device to device in the same run; 0.85 of it is wanted of elementwise
operations and of rows, and nothing of the others. How it is measured is said in gpu.py: symgraph's
operations read shared variables and write one. PyTorch runs eagerly and compiled, over images in
its own layout and channels_last; JAX is jitted, its images have the channels innermost. Images of
symgraph lie in its own layout, with `--layout last` with the channels innermost; networks keep them
so, but variables have only one layout, so that the result is then copied once.

    python benchmarks/gpu_kernels.py [--case gelu,add,lrn] [--peers torch,jax] [--layout plain,last]
                                     [--out FILE] [--quick]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gpu
import numpy as np
import ours
from cpu_kernels import DECAY, LR, MOMENTUM, of
from cpu_kernels import EXPRESSIONS as OF_ROWS
from gpu import GpuBenchmark
from harness import Contestant, repeated
from machine import best_rate
from peers import load
from races import WITHIN, list_of

import symgraph as sg

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
LAYOUTS = {"plain": "", "last": ", ours channels last"}

ROWS, IMAGES, POOLED = (16384, 4096), (256, 96, 55, 55), (256, 96, 27, 27)
LAST, SQUARE = (256, 55, 55, 96), (8192, 8192)
COPIED = 1 << 28  # numbers: 1 GiB
REPEATS, TARGET = 20, 1.0
NARROW, SUMS = 1e-5, 1e-4  # tolerances
CHECKED = 1 << 22  # numbers of a result that are compared; all of a smaller one


@dataclass(frozen=True)
class Kernel:
    """An operation: its operands, the share of bandwidth that is wanted, how exact it must be."""

    operands: tuple[Shape, ...]
    wanted: float = 0.0
    tolerance: float = NARROW
    images: bool = False


#                         operands                          of bandwidth
KERNELS = {
    "gelu":        Kernel((ROWS, ROWS[1:], ROWS[1:], ROWS), 0.85),
    "add":         Kernel((ROWS, ROWS),                     0.85),
    "bias_relu":   Kernel((LAST, LAST[3:]),                 0.85),
    "row_sum":     Kernel((ROWS,),                          0.85, SUMS),
    "softmax":     Kernel((ROWS,),                          0.85),
    "layer_norm":  Kernel((ROWS, ROWS[1:], ROWS[1:]),       0.85),
    "turned":      Kernel((SQUARE, SQUARE)),
    "column_sum":  Kernel(((256 * 55 * 55, 96),),           tolerance=SUMS),
    "full_sum":    Kernel((ROWS,),                          tolerance=SUMS),
    "max_pool":      Kernel((IMAGES,),                      images=True),
    "max_pool_back": Kernel((IMAGES, POOLED),               images=True),
    "lrn":           Kernel((IMAGES,),                      images=True),
    "lrn_back":      Kernel((IMAGES, IMAGES),               images=True),
}  # fmt: skip
PARAMETERS, SGD_WANTED = 60_000_000, 0.85
CASES = (*KERNELS, "sgd")


def max_pool(x: sg.Value) -> sg.Value:
    """The largest of 3 x 3, at every second place."""
    return sg.max_pool2d(x, 3, 2)


def back(forward: Callable[[sg.Value], sg.Value]) -> Callable[..., sg.Value]:
    """Make the gradient of an operation, from what comes in from behind."""
    return lambda x, g: sg.grad((forward(x) * g).sum(), x)


EXPRESSIONS: dict[str, Callable[..., sg.Value]] = {
    **OF_ROWS,
    "add": lambda x, y: x + y,
    "bias_relu": lambda x, b: sg.relu(x + b),
    "row_sum": lambda x: x.sum(axis=1),
    "column_sum": lambda x: x.sum(axis=0),
    "full_sum": lambda x: x.sum(),
    "max_pool": max_pool,
    "lrn": sg.local_response_norm,
    "max_pool_back": back(max_pool),
    "lrn_back": back(sg.local_response_norm),
}
OUT, IN = (0, 2, 3, 1), (0, 3, 1, 2)  # where channels go, and back


def options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this script."""
    parser.add_argument("--case", type=list_of(CASES), default=CASES, help=",".join(CASES))
    parser.add_argument("--peers", type=list_of(gpu.PEERS), default=gpu.PEERS, help="who races")
    parser.add_argument(
        "--layout",
        type=list_of(tuple(LAYOUTS)),
        default=("plain",),
        help="of our images: plain,last",
    )
    parser.add_argument("--backend", help="symgraph's backend (default: that of the device)")
    gpu.options_of_device(parser)


def smaller(kernel: Kernel) -> Kernel:
    """Give an operation for a smoke run: images of 13 x 13, pooled to 6 x 6, rows of 64."""
    sizes = {256: 4, 96: 8, 55: 13, 27: 6, 16384: 32, 8192: 48, 4096: 64, 256 * 55 * 55: 300}
    return replace(kernel, operands=tuple(tuple(sizes[n] for n in one) for one in kernel.operands))


def drawn(shapes: tuple[Shape, ...]) -> list[Array]:
    """Draw operands around 1/2, so that sums are not near zero."""
    rng = np.random.default_rng(5)
    found = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]
    for array in found:
        array += np.float32(0.5)
    return found


def ours_of(
    case: str, arrays: list[Array], backend: str | None, wait: Callable[[], Any], last: bool = False
) -> Contestant:
    """Make symgraph's contestant for an operation; with `last`, images have channels innermost."""
    if not last:
        value = EXPRESSIONS[case](*(sg.shared(array) for array in arrays))
    else:
        turned = [sg.shared(np.ascontiguousarray(array.transpose(OUT))) for array in arrays]
        images = [sg.permute_dims(one, IN) for one in turned]
        value = sg.permute_dims(EXPRESSIONS[case](*images), OUT)
    shape = tuple(int(size) for size in value.shape)
    found = ours.resident(value, shape, backend=backend, wait=wait)
    if not last:
        return found
    return replace(found, check=lambda: found.result().transpose(IN))


def our_sgd(
    weight: Array, gradient: Array, backend: str | None, wait: Callable[[], Any]
) -> Contestant:
    """Make symgraph's contestant for an update; the gradient is shared too."""
    w, g = sg.shared(weight, "w"), sg.shared(gradient, "g")
    updates = sg.optim.SGD([w], LR, momentum=MOMENTUM, weight_decay=DECAY).updates(g.sum(), [g])
    step = ours.compiled([], [], updates, backend=backend, name="update")

    def check() -> Array:
        step()
        return w.value

    return Contestant(ours.called(step), step, check=check, wait=wait)


def sampled(array: Any) -> Array:
    """Give what is compared of a result: every so many of the first axis."""
    found = np.asarray(array)
    return found if found.size <= CHECKED else found[:: -(-found.size // CHECKED)]


@dataclass
class Copies:
    """Copies from device to device, as fast as they have been in this run."""

    device: str
    count: int
    best: float = 0.0

    def bandwidth(self) -> float:
        """Measure again; give bytes read and written in a second, the most so far."""
        torch = load("torch")
        source = torch.zeros(self.count, device=self.device)
        target = torch.empty_like(source)

        def copies() -> None:
            for _ in range(REPEATS):
                target.copy_(source)
            if self.device != "cpu":
                torch.cuda.synchronize()

        rate, _ = best_rate({"copy_": copies}, 2.0 * REPEATS * source.nbytes, 5)
        self.best = max(self.best, rate)
        return self.best


@dataclass
class Race:
    """The rows of an operation: what everybody computes, and the numbers that judge it."""

    benchmark: GpuBenchmark
    copies: Copies
    name: str
    moved: int
    wanted: float
    tolerance: float

    def run(
        self,
        us: dict[str, Contestant],
        makers: Mapping[str, Callable[[], list[Contestant]]],
        reference: Array,
    ) -> None:
        """Race each of ours, by what its row is called, and hold it against the copy."""
        benchmark = self.benchmark
        times = 2 if benchmark.quick else REPEATS
        peers = []
        for peer, make in makers.items():
            try:
                peers += make()
            except Exception as reason:  # noqa: BLE001 - whatever a library raises, the others race
                benchmark.note(f"{self.name}: cannot be made: {peer}: {gpu.one_line(reason)}")
        them = [self._measured(peer, times) for peer in peers]
        for what, one in us.items():
            case = benchmark.case = self.name + what
            row = benchmark.compare(
                case, self._measured(one, times), them, target=TARGET,
                reference=sampled(reference), tolerance=self.tolerance, within=WITHIN,
            )  # fmt: skip
            rates = [self.moved / seconds / 1e9 for seconds in benchmark.taken[case]]
            ceiling = self.copies.bandwidth() / 1e9
            text = f"{case}, of copy bandwidth"
            benchmark.ceiling(text, rates, ceiling, self.wanted, "GB/s", row.error)

    def _measured(self, contestant: Contestant, times: int) -> Contestant:
        checked = replace(contestant, check=lambda: sampled(contestant.result()))
        return repeated(gpu.watched(self.benchmark, self.name, checked), times)


def kernel_race(benchmark: GpuBenchmark, copies: Copies, case: str, kernel: Kernel) -> None:
    """Add the rows of an operation."""
    from peers import torch_kernels

    chosen, device = benchmark.chosen, benchmark.chosen.device
    arrays = drawn(kernel.operands)
    reference = torch_kernels.exact(case, arrays, device)
    backend, wait = gpu.backend_of(chosen), gpu.waiting(device)
    us = {
        LAYOUTS[layout]: ours_of(case, arrays, backend, wait, layout == "last")
        for layout in (chosen.layout if kernel.images else ("plain",))
    }
    racing = gpu.usable(benchmark, chosen.peers)
    makers = {peer: partial(of, [peer], "kernels", case, arrays, device) for peer in racing}
    moved = sum(array.nbytes for array in arrays) + 4 * reference.size
    name = f"{case} {' x '.join(map(str, kernel.operands[0]))}"
    race = Race(benchmark, copies, name, moved, kernel.wanted, kernel.tolerance)
    race.run(us, makers, reference)


def sgd_race(benchmark: GpuBenchmark, copies: Copies) -> None:
    """Add the rows of an update; five arrays are moved."""
    chosen, device = benchmark.chosen, benchmark.chosen.device
    count = 1000 if benchmark.quick else PARAMETERS
    weight, gradient = drawn(((count,), (count,)))
    wide = weight.astype(np.float64)
    reference = wide - LR * (gradient + DECAY * wide)
    us = our_sgd(weight, gradient, gpu.backend_of(chosen), gpu.waiting(device))
    given = (weight, gradient, LR, MOMENTUM, DECAY, device)
    racing = gpu.usable(benchmark, chosen.peers)
    makers = {peer: partial(of, [peer], "sgd", *given) for peer in racing}
    name = f"SGD with momentum, {count:,} parameters"
    race = Race(benchmark, copies, name, 5 * weight.nbytes, SGD_WANTED, NARROW)
    race.run({"": us}, makers, reference)


def main() -> int:
    """Measure, interleaved."""
    benchmark = gpu.begin("gpu_kernels", __doc__, options)
    chosen = benchmark.chosen
    copies = Copies(chosen.device, 1 << 16 if benchmark.quick else COPIED)
    for _ in range(3):
        copies.bandwidth()
    for case in CASES:
        if case not in chosen.case:
            continue
        begin = time.perf_counter()
        try:
            if case == "sgd":
                sgd_race(benchmark, copies)
            else:
                kernel = smaller(KERNELS[case]) if benchmark.quick else KERNELS[case]
                kernel_race(benchmark, copies, case, kernel)
        except Exception as reason:  # noqa: BLE001 - the machine is there for minutes: the next row
            benchmark.leave_out(case, gpu.one_line(reason))
        gpu.release()
        benchmark.say(f"{case}: {time.perf_counter() - begin:.1f} s")
    benchmark.notes.append(f"copy from device to device {copies.best / 1e9:.0f} GB/s")
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
