"""What the machine itself can do, measured in the same run: products and copies, best of several.

Copies go between buffers of huge pages, far larger than the caches, and count what is read and what
is written. Products are of square matrices; the peak is the best library's.
"""

from __future__ import annotations

import mmap
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from peers import load

from symgraph.config import usable_cores

HUGE = 1 << 21
Array = np.ndarray[Any, Any]


def huge_array(count: int, dtype: Any = np.float32) -> Array:
    """Make an array that starts on a huge page and asks for more of them."""
    nbytes = count * np.dtype(dtype).itemsize
    pages = mmap.mmap(-1, (nbytes // HUGE + 2) * HUGE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    whole = np.frombuffer(pages, np.uint8)
    start = -whole.ctypes.data % HUGE
    made: Array = whole[start : start + nbytes].view(dtype)
    made[...] = 0
    return made


def best_rate(ways: dict[str, Callable[[], Any]], work: float, rounds: int) -> tuple[float, str]:
    """Give work per second and the way that reaches it: the best median of interleaved rounds."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, run in ways.items():
            begin = time.perf_counter()
            run()
            if number:  # the first round warms up
                taken[name].append(time.perf_counter() - begin)
    best = min(taken, key=lambda name: statistics.median(taken[name]))
    return work / statistics.median(taken[best]), best


@dataclass
class Machine:
    """Measures, and keeps the best that it has seen; `quick` sizes tell nothing."""

    quick: bool = False
    bandwidth: float = 0.0
    peaks: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def copy_bandwidth(self) -> float:
        """Give bytes per second of a copy, the bytes read and the bytes written."""
        torch, threads = load("torch"), usable_cores()
        count = 1 << (16 if self.quick else 26)
        source, target = huge_array(count), huge_array(count)
        parts = [slice(k * count // threads, (k + 1) * count // threads) for k in range(threads)]
        there, here = torch.from_numpy(target), torch.from_numpy(source)
        with ThreadPoolExecutor(threads) as pool:
            ways: dict[str, Callable[[], Any]] = {
                "numpy, one thread": lambda: np.copyto(target, source),
                f"numpy in {threads} threads": lambda: list(
                    pool.map(lambda part: np.copyto(target[part], source[part]), parts)
                ),
                "torch copy_": lambda: there.copy_(here),
                "torch add out=": lambda: torch.add(here, 1.0, out=there),
            }
            found, way = best_rate(ways, 2.0 * source.nbytes, 3 if self.quick else 9)
        if found > self.bandwidth:
            self.bandwidth = found
            self.notes["copy"] = f"copy bandwidth {found / 1e9:.1f} GB/s by {way}"
        return self.bandwidth

    def gemm_peak(self, precision: str) -> float:
        """Give FLOPs per second of products of square matrices."""
        torch = load("torch")
        for side in (64,) if self.quick else (2048, 4096):
            kind = torch.bfloat16 if precision == "bf16" else torch.float32
            a, b = (torch.randn(side, side).to(kind) for _ in range(2))
            linear = torch.nn.Linear(side, side, bias=False).to(kind).eval()
            packed = torch.compile(linear, dynamic=False, options={"freezing": True})
            out = torch.empty(side, side, dtype=kind)
            ways: dict[str, Callable[[], Any]] = {
                "torch mm": partial(torch.mm, a, b, out=out),
                "torch linear, packed by oneDNN or MKL": partial(packed, a),
            }
            if precision == "fp32":
                ways["numpy"] = partial(np.matmul, a.numpy(), b.numpy())
            with torch.no_grad():
                found, way = best_rate(ways, 2.0 * side**3, 3 if self.quick else 7)
            if found > self.peaks.get(precision, 0.0):
                self.peaks[precision] = found
                self.notes[precision] = (
                    f"peak of products in {precision} {found / 1e9:.0f} GFLOP/s by {way}, "
                    f"{side} x {side}"
                )
        return self.peaks[precision]
