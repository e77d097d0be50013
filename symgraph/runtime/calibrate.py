"""What this machine can do at most: products and copies, measured once and kept on the disk.

A peak is the best of several short runs: what stands in the way only makes them slower. Copies go
between huge pages, far larger than most caches, and count what is read and what is written.
"""

from __future__ import annotations

import json
import platform
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Any

import numpy as np

from symgraph.backends.cpu.compiler import (
    Library,
    compile_text,
    fingerprint,
    has_masks,
    unavailable,
)
from symgraph.backends.cpu.driver import KERNEL, WORDS, driver
from symgraph.backends.cpu.onednn import library, primitives
from symgraph.backends.cpu.onednn.descriptors import Descriptor
from symgraph.config import usable_cores
from symgraph.cost.limit import memory_limit
from symgraph.dims import anonymous
from symgraph.errors import BackendError
from symgraph.frozen import frozen
from symgraph.graph.index import axes
from symgraph.graph.scalar import scalar
from symgraph.lower.llvm.kernel import print_kernel
from symgraph.lower.llvm.module import module
from symgraph.lower.nest import Element, Nest, Store, buffer
from symgraph.lower.program import number
from symgraph.lower.schedule import choose
from symgraph.runtime.arena import Arena
from symgraph.runtime.cache import default_cache, key

CPU_INFO = Path("/proc/cpuinfo")

FORMAT = "symgraph peaks 1"
LONGEST = 4096  # bytes of what is kept
MOST = 1e18  # operations or bytes a second that no machine reaches
SECONDS = 0.06  # for each measurement
FEWEST = 3  # runs
SIDE, LARGEST_SIDE = 512, 4096  # of the square matrices
COPIED = 32 << 20  # bytes that a copy reads
ENOUGH = 0.004  # seconds from which on a run is long enough to measure a peak


@frozen
class Peaks:
    """FLOPs a second of products, by dtype, and bytes a second of a copy, read and written.

    `how` says of each by what it was reached.
    """

    float32: float
    bfloat16: float
    bandwidth: float
    how: Mapping[str, str] = field(default_factory=dict)

    def flops(self, dtype: str) -> float:
        """Give the peak for products of a dtype."""
        if dtype == "bfloat16":
            return self.bfloat16
        return self.float32 / 2 if dtype == "float64" else self.float32

    def least(self, flops: int, nbytes: int, dtype: str = "float32") -> float:
        """Give the seconds that so much work and traffic take at least (the roofline)."""
        return max(flops / self.flops(dtype), nbytes / self.bandwidth)


_lock = threading.Lock()
_known: dict[str, Peaks] = {}


def peaks(anew: bool = False) -> Peaks:
    """Give what this machine can do: known, or read from the disk, or measured in half a second.

    With `anew` it is measured again, for a machine that was busy the last time: the best counts.
    """
    name = key(FORMAT, *identity())
    with _lock:
        found = _known.get(name) or _parsed(default_cache().get(name))
        if found is None or anew:
            found = _best(measure(), found)
            default_cache().put(name, json.dumps(asdict(found)).encode())
        _known[name] = found
        return found


def _best(now: Peaks, before: Peaks | None) -> Peaks:
    """Join two measurements: what stands in the way only makes numbers smaller."""
    if before is None:
        return now
    better = {n: getattr(now, n) > getattr(before, n) for n in ("float32", "bfloat16", "bandwidth")}
    rates = {n: getattr(now if won else before, n) for n, won in better.items()}
    how = {n: (now if won else before).how.get(n, "") for n, won in better.items()}
    return Peaks(**rates, how=how)


def measure() -> Peaks:
    """Measure; nothing is kept."""
    how: dict[str, str] = {}
    float32, how["float32"] = _products("float32")
    bfloat16, how["bfloat16"] = _products("bfloat16")
    if not bfloat16:
        bfloat16, how["bfloat16"] = float32, "as float32"
    bandwidth, how["bandwidth"] = _copies()
    return Peaks(float32, bfloat16, bandwidth, how)


def identity() -> list[str]:
    """Give all that peaks depend on."""
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    status = library.status()
    return [
        models[0] if models else platform.processor() or platform.machine(),
        f"{usable_cores()} cores",
        f"numpy {np.__version__}",
        unavailable() or fingerprint(),
        status.problem or f"oneDNN {status.version} {status.threading} {status.instructions}",
    ]


def _parsed(data: bytes | None) -> Peaks | None:
    """Read what was kept; None where it is not what this file writes."""
    if data is None or len(data) > LONGEST:
        return None
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or set(found) != {"float32", "bfloat16", "bandwidth", "how"}:
        return None
    how = found.pop("how")
    words = [*how.keys(), *how.values()] if isinstance(how, dict) else [None]
    numbers = list(found.values())
    right = all(isinstance(one, float) and 0 < one < MOST for one in numbers)
    if not right or not all(isinstance(word, str) for word in words):
        return None
    return Peaks(**found, how=how)


def best(run: Callable[[], Any], seconds: float = SECONDS) -> float:
    """Give the shortest time of a run, of as many as fit into some seconds but the first."""
    run()
    taken: list[float] = []
    while sum(taken) < seconds or len(taken) < FEWEST:
        begin = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begin)
    return max(min(taken), 1e-9)


# -- products --------------------------------------------------------------------------------------


def _products(dtype: str) -> tuple[float, str]:
    """Give FLOPs a second of products of square matrices, and what computes them; 0 if nothing."""
    side, made = SIDE, _product(SIDE, dtype)
    while made is not None and side < LARGEST_SIDE and best(made[0], 0.0) < ENOUGH:
        side *= 2
        made = _product(side, dtype)
    if made is None:
        return 0.0, ""
    run, name = made
    return 2.0 * side**3 / best(run), f"{name}, {side} x {side}"


def _product(side: int, dtype: str) -> tuple[Callable[[], Any], str] | None:
    return _by_library(side, dtype) or _by_numpy(side, dtype)


def _by_library(side: int, dtype: str) -> tuple[Callable[[], Any], str] | None:
    """Make a product by oneDNN, in the layouts that it likes; None where it has none."""
    if library.status().problem:
        return None
    try:
        plain = Descriptor.dense((side, side), dtype)
        made = primitives.matmul(plain, Descriptor((side, side), dtype), None, plain)
    except BackendError:
        return None
    if made.is_reference:
        return None
    arena = Arena()
    sizes = {role: -(-one.size // 64) * 64 for role, one in made.arguments.items()}
    arena.reserve(sum(sizes.values()))
    arena.view(0, (arena.size // 4,), np.float32).fill(1.0)
    place, where = arena.address, {}
    for role, one in made.arguments.items():
        where[role] = (one, place)
        place += sizes[role]
    call = made.bind(where)

    def run(held: Arena = arena) -> None:
        call()

    return run, f"oneDNN {made.implementation}"


def _by_numpy(side: int, dtype: str) -> tuple[Callable[[], Any], str] | None:
    if dtype != "float32":
        return None
    a, out = np.ones((side, side), np.float32), np.empty((side, side), np.float32)
    return lambda: np.matmul(a, a, out=out), "NumPy"


# -- copies ----------------------------------------------------------------------------------------


def _copies() -> tuple[float, str]:
    """Give bytes a second of a copy, and what makes it."""
    size = max(min(COPIED, memory_limit() // 4), 1 << 12) // 64 * 64
    arena = Arena()
    arena.reserve(2 * size)
    arena.view(0, (2 * size // 4,), np.float32).fill(1.0)  # else all of it may be one page of zeros
    if unavailable():
        source, target = (arena.view(start, (size // 4,), np.float32) for start in (0, size))
        return 2.0 * size / best(lambda: np.copyto(target, source)), "NumPy"
    run = copying(arena.address, arena.address + size, size // 4)
    return 2.0 * size / best(run), "a generated kernel"


def copying(source: int, target: int, count: int) -> Callable[[], None]:
    """Give what copies `count` numbers of float32 between two addresses by a generated kernel."""
    n = anonymous("n")  # a name might be the user's
    there, here = buffer("there", "float32", (n,)), buffer("here", "float32", (n,))
    (i,) = axes((n,))
    value = scalar("load", (i.scalar(),), "float32", Element(there))
    nest = Nest("copy", (i,), (Store(here, (i,), (i.scalar(),), value),))
    kernel = print_kernel(nest, choose(nest, {n: count}), "copy", has_masks())
    held = Library(compile_text(module([kernel], ["copy"])), ["copy"])
    env = {n: count}
    places = {there: source, here: target}
    words = np.array(
        [*(places[one] for one in kernel.buffers), *(number(one, env) for one in kernel.sizes)],
        np.int64,
    )
    tasks = number(kernel.tasks, env)
    threads = min(usable_cores(), tasks)
    address, own = held.addresses["copy"], words.ctypes.data
    record = np.array([KERNEL, address, own, tasks, threads, 0], np.int64)
    assert len(record) == WORDS
    driver().check_process()
    start = driver().run

    def run(held: Any = (held, words, record)) -> None:
        start(record.ctypes.data, 1)

    return run
