"""What races on a GPU share: data that lie there, one wait for many steps, rows that are kept.

Before a clock starts, the batch, the weights and whatever else a step reads lie on the device, for
everybody: symgraph's in shared variables. A measurement is several steps in a row, given to the
device without waiting, and one wait at its end; its time is divided by the number of steps. The
time of a call in Python is taken by itself, on a device that has nothing else to do.

The reference is PyTorch in float64 on the whole batch, on the same device; how results are compared
is said in races.py. A peer that fails, or errs, does not race, and a note says why. Where symgraph
fails, the row is left out with the reason, and the next one is run. `--out` names a file that holds
after each row what the last line of the output will hold.

With `--device cpu` everybody works on the CPU: a rehearsal where there is no GPU.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ours
from harness import Benchmark, Contestant, Row, relative_error, repeated, start
from ours import Problem
from peers import load, need
from races import MODES, TOLERANCE, WITHIN, add_options, list_of

from symgraph.backends.cuda.status import status, version

DEVICES = ("cuda", "cpu")
PRECISIONS = ("fp32", "tf32", "bf16")
PEERS = ("torch", "jax")
HOST_LIMIT = 15.0  # microseconds that a call of a captured step may keep Python busy
CALLS = 10  # that are timed in a burst

# PyTorch's settings on the command line, and as peers.torch_nets calls them
SETTINGS = {
    "eager": "EAGER", "eager-last": "LAST", "compile": "COMPILED", "compile-last": "COMPILED_LAST",
    "frozen-last": "FROZEN", "reduce-overhead": "REDUCED", "reduce-overhead-last": "REDUCED_LAST",
    "max-autotune-last": "TUNED_LAST", "graph": "RECORDED", "whole": "WHOLE",
    "whole-graph": "WHOLE_RECORDED",
}  # fmt: skip


@dataclass
class GpuBenchmark(Benchmark):
    """A benchmark that goes on where something fails, and keeps what it has."""

    began: float = field(default_factory=time.perf_counter)
    case: str = ""  # that is being measured

    def say(self, text: str) -> None:
        """Tell what is going on, and since when."""
        print(f"{time.perf_counter() - self.began:6.1f} s  {text}", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Keep a note, and say it at once."""
        self.notes.append(text)
        self.say(text)

    def keep(self) -> None:
        """Write what is known so far to the file that was asked for."""
        if self.chosen.out is not None:
            self.chosen.out.write_text(self.line() + "\n", encoding="utf-8")

    def add(self, row: Row) -> Row:
        """Keep a row, in the file too."""
        super().add(row)
        self.keep()
        return row

    def leave_out(self, case: str, reason: str) -> None:
        """Say that a row cannot be measured, and why."""
        super().leave_out(case, reason)
        self.say(f"left out: {case}: {reason}")
        self.keep()

    def admits(self, case: str, peer: Contestant, reference: Any, tolerance: float) -> bool:
        """Tell whether a peer may race; a note says so where its result is wrong or it fails."""
        try:
            return super().admits(case, peer, reference, tolerance)
        except Exception as problem:  # noqa: BLE001 - whatever a library raises, the others race
            self.note(f"{case}: does not race: {peer.name}: {one_line(problem)}")
            return False

    def times(self, contestants: Sequence[Contestant]) -> dict[str, list[float]]:
        """Time all contestants, and note the median of each."""
        taken = super().times(contestants)
        listed = (f"{name} {statistics.median(each) * 1e6:.1f}" for name, each in taken.items())
        self.note(f"{self.case}: microseconds: {', '.join(listed)}")
        return taken

    def finish(self) -> int:
        """Print everything; give the exit status of the script."""
        self.keep()
        return super().finish()


def one_line(problem: BaseException) -> str:
    """Give the kind of an error and the beginning of its message."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return f"{type(problem).__name__}: {lines[0]:.300}" if lines else type(problem).__name__


def stop(sentence: str) -> None:
    """Leave the script with status 2, as where a peer is missing."""
    print(sentence, file=sys.stderr)
    raise SystemExit(2)


def options_of_device(parser: argparse.ArgumentParser) -> None:
    """Add the flags that all scripts for a GPU have."""
    parser.add_argument(
        "--device", choices=DEVICES, default="cuda", help="cpu: a rehearsal (default: cuda)"
    )
    parser.add_argument("--out", type=Path, help="a file for the JSON line, also of some rows")


def options_of_nets(
    parser: argparse.ArgumentParser,
    cases: Sequence[str],
    batches: Sequence[int],
    precisions: Sequence[str],
    modes: Sequence[str] = MODES,
) -> None:
    """Add the flags of a script that races networks; `precisions` are those run by default."""
    add_options(parser, cases, batches, modes, PEERS, PRECISIONS)
    parser.set_defaults(precision=list(precisions))
    text = ",".join(SETTINGS)
    parser.add_argument("--settings", type=list_of(tuple(SETTINGS)), help=f"PyTorch's: {text}")
    parser.add_argument("--oracle", choices=DEVICES, help="where float64 is computed")
    options_of_device(parser)


def begin(
    name: str, doc: str | None, options: Callable[[argparse.ArgumentParser], None], rounds: int = 9
) -> GpuBenchmark:
    """Read the command line and prepare the process; leaves it where there is no GPU."""
    benchmark = GpuBenchmark(**vars(start(name, doc, rounds=rounds, warmup=1, options=options)))
    if benchmark.chosen.device == "cpu":
        need("torch")
        os.environ["JAX_PLATFORMS"] = "cpu"
        return benchmark
    found = status()
    if found.problem:
        stop(f"This benchmark needs an NVIDIA GPU, and {found.problem} (fix: {found.fix}).")
    need("torch")
    torch = load("torch")
    if not torch.cuda.is_available():
        stop(f"This benchmark races against PyTorch on a GPU, which {torch.__version__} finds not.")
    # JAX would take three quarters of the memory; and what it compiled serves the next run
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{tempfile.gettempdir()}/jax-of-benchmarks")
    runtime = found.cupy.cuda.runtime
    properties = runtime.getDeviceProperties(0)
    benchmark.facts = {
        "gpu": properties["name"].decode(),
        "gpu memory": f"{properties['totalGlobalMem'] / 2**30:.1f} GiB",
        "driver": f"for CUDA {version(runtime.driverGetVersion())}",
        "cuDNN of torch": str(torch.backends.cudnn.version()),
    }
    return benchmark


def backend_of(chosen: argparse.Namespace) -> str | None:
    """Give symgraph's backend: that of the device, unless another one was asked for."""
    backend: str | None = chosen.backend
    return "cuda" if backend is None and chosen.device == "cuda" else backend


def waiting(device: str) -> Callable[[], Any]:
    """Give what waits until the device has done everything that symgraph gave to it."""
    if device == "cpu":
        return lambda: None
    wait: Callable[[], Any] = status().cupy.cuda.runtime.deviceSynchronize
    return wait


def watched(benchmark: GpuBenchmark, case: str, contestant: Contestant) -> Contestant:
    """Have the first result told, with the time it took, and kept."""
    kept: list[Any] = []

    def check() -> Any:
        if not kept:
            begin = time.perf_counter()
            kept.append(contestant.result())
            seconds = time.perf_counter() - begin
            benchmark.say(f"{case}: first result of {contestant.name} after {seconds:.1f} s")
        return kept[0]

    return replace(contestant, check=check)


def made(
    benchmark: GpuBenchmark, case: str, makers: Mapping[str, Callable[[], Contestant]]
) -> list[Contestant]:
    """Make the contestants that can be made; a note says which cannot."""
    found = []
    for name, make in makers.items():
        try:
            found.append(watched(benchmark, case, make()))
        except Exception as problem:  # noqa: BLE001 - whatever a library raises, the others race
            benchmark.note(f"{case}: cannot be made: {name}: {one_line(problem)}")
    return found


def usable(benchmark: GpuBenchmark, peers: Sequence[str]) -> list[str]:
    """Give the peers without a JAX that has no GPU; a note says so, once."""
    if "jax" not in peers or benchmark.chosen.device == "cpu":
        return list(peers)
    reason = "is not installed"
    try:
        backend = load("jax").default_backend()
        reason = f"works on the {backend} here"
        if backend == "gpu":
            return list(peers)
    except (Exception, SystemExit) as problem:  # noqa: BLE001 - a JAX that cannot start its backend
        reason = one_line(problem)
    if not any(note.startswith("jax does not race") for note in benchmark.notes):
        benchmark.note(f"jax does not race: {reason}")
    return [peer for peer in peers if peer != "jax"]


def release() -> None:
    """Give back the memory of what nobody holds any more."""
    from peers import contestants as peers

    gc.collect()
    peers.release()


def race(
    benchmark: GpuBenchmark,
    case: str,
    problem: Problem,
    mode: str,
    precision: str,
    target: float,
    *,
    repeats: int,
) -> None:
    """Add the row of a network that trains ("train") or infers, and the one of its host time.

    `repeats` steps are one measurement.
    """
    benchmark.case = case
    try:
        _race(benchmark, case, problem, mode, precision, target, repeats)
    except Exception as reason:  # noqa: BLE001 - the machine is there for minutes: the next row
        benchmark.leave_out(case, one_line(reason))
    release()


def _race(
    benchmark: GpuBenchmark,
    case: str,
    problem: Problem,
    mode: str,
    precision: str,
    target: float,
    repeats: int,
) -> None:
    from peers import contestants as peers
    from peers import torch_nets

    chosen = benchmark.chosen
    problem = replace(problem, device=chosen.device)
    reference = _reference(benchmark, case, problem, mode)
    release()
    make = {"train": ours.resident_training, "infer": ours.resident_inference}[mode]
    rounding = "fp32" if precision == "tf32" and chosen.device == "cpu" else precision
    begin = time.perf_counter()
    step = make(problem, rounding, backend_of(chosen), waiting(chosen.device))
    benchmark.say(f"{case}: {step.name} compiled in {time.perf_counter() - begin:.1f} s")
    us = watched(benchmark, case, step)
    us.result()  # a network that cannot run needs no peers
    settings = [getattr(torch_nets, SETTINGS[name]) for name in chosen.settings or ()]
    racing = usable(benchmark, chosen.peers)
    them = made(benchmark, case, peers.makers(problem, mode, precision, racing, settings))
    plain = _plain_error(benchmark, case, them, reference)
    problem.reset()  # peers were made since
    benchmark.compare(
        case, repeated(us, repeats), [repeated(each, repeats) for each in them], target=target,
        reference=reference, tolerance=max(TOLERANCE[mode, precision], 2 * plain), within=WITHIN,
    )  # fmt: skip
    host = host_times(step, 1 if benchmark.quick else 5)
    benchmark.limit(f"{case}, host time of a call", host, HOST_LIMIT, "us")


def _reference(benchmark: GpuBenchmark, case: str, problem: Problem, mode: str) -> Any:
    """Compute what results are checked by, in float64, or where that cannot be, in float32."""
    from peers import contestants as peers

    oracle = benchmark.chosen.oracle or problem.device
    benchmark.say(f"{case}: PyTorch in float64 on the {oracle}")
    try:
        return peers.exact(replace(problem, device=oracle), mode)
    except Exception as reason:  # noqa: BLE001 - too little memory, or no such convolution
        benchmark.note(f"{case}: float32 checks, not float64: {one_line(reason)}")
    release()
    return peers.exact(problem, mode, "fp32")


def _plain_error(
    benchmark: GpuBenchmark, case: str, them: Sequence[Contestant], reference: Any
) -> float:
    """Give the error of the first peer that has a result."""
    for peer in them:
        try:
            return relative_error(peer.result(), reference)
        except Exception as problem:  # noqa: BLE001 - told where it is not admitted
            benchmark.say(f"{case}: {peer.name}: {one_line(problem)}")
    return 0.0


def host_times(step: Contestant, bursts: int) -> list[float]:
    """Give the microseconds that calls take in Python, each on a device that has nothing to do."""
    found = []
    for _ in range(bursts * CALLS):
        step.wait()
        begin = time.perf_counter()
        step.run()
        found.append((time.perf_counter() - begin) * 1e6)
    step.wait()
    return found
