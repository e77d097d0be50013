"""Two workers on two cores: weak scaling of AlexNet, the exchange alone, and PyTorch's DDP beside.

Every worker is a process with one thread. Ours average in shared memory: weights and momenta after
each step ("params", as published), or gradients before the update ("grads").

    exchange   61 M weights and 61 M momenta, or gradients, averaged, beside the copy bandwidth of
               the machine, the published way (each tensor is copied into a twin, then both are
               averaged) and gloo's all-reduce of as many floats
    update     the exchange of gradients and the update, of which each makes its part, or all of it
    step       one worker alone / a step of two workers at the same images per worker: what the
               machine's bandwidth lets expect, and what is reached; two that exchange nothing; DDP
               over gloo, best setting; "grads" beside "params", and with all updates made twice

Numbers are checked before anything is timed: averages against NumPy's in float64; loss and momenta
after two steps, without dropout, against one worker's on the batch of both, PyTorch's too. Groups
of processes take turns, blocked in between. Without PyTorch its rows are left out.

    python benchmarks/data_parallel.py [--case exchange,update,step] [--batch 32,128] [--quick]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from groups import Group
from harness import Benchmark, Contestant, Row, relative_error, spread, start
from peers import installed
from peers.torch_settings import DROPPED, environment
from races import list_of, sizes

WORKERS = 2
PROGRAM = Path(__file__).resolve().parent / "parallel_worker.py"
CASES = ("exchange", "update", "step")
AVERAGES = ("params", "grads")
WHOLE = "grads, whole update"
CALLED = {"params": "weights and momenta", "grads": "gradients"}
PUBLISHED = ("whole", "pieces", "compiled")
GLOO = ("whole", "pieces of 25 MB", "pieces of 64 MB")
DDP = (
    "DDP", "DDP views static", "DDP views static channels_last",
    "DDP views static channels_last, a bucket of 300 MB",
)  # fmt: skip
COPIES = tuple((form, memory) for memory in ("huge", "shared") for form in ("copy", "add"))

SCALING = {128: 0.94}  # images a worker: one worker's time / the team's; elsewhere the model's
MODEL = 0.03  # below the model, at most
BANDWIDTH, PUBLISHED_WAY, PEER = 0.8, 2.0, 2.0
EXACT = 1e-6  # of averages; both numbers are rounded once or twice
TOLERANCE = 2e-2  # of momenta, as in races.py: either side of a kink is right
TRIES = 2  # runs that choose a setting of DDP
LONG = 128  # images a worker with which a step takes many seconds
FEW = 3  # rounds of such steps


@dataclass
class Run:
    """The benchmark, its groups of processes and what was found on the way."""

    benchmark: Benchmark
    folder: Path
    one: Group
    two: Group
    torch: Group | None
    copies: dict[str, float] = field(default_factory=dict)  # best bytes per second of each

    @property
    def quick(self) -> bool:
        """Whether this is a smoke run."""
        return self.benchmark.quick

    @property
    def best_copy(self) -> str:
        """The fastest copy in huge pages, all cores at once."""
        return max(
            (n for n in self.copies if n.endswith("huge pages")), key=self.copies.__getitem__
        )

    @property
    def bandwidth(self) -> float:
        """Its bytes per second, read and written."""
        return self.copies[self.best_copy]

    def without_torch(self, case: str) -> bool:
        """Leave a row out where there is no PyTorch."""
        if self.torch is None:
            self.benchmark.leave_out(case, "this Python has no PyTorch")
        return self.torch is None


def contestant(group: Group, work: str, name: str = "", **options: Any) -> Contestant:
    """Have a group run a piece of work when it is its turn."""
    return Contestant(name or work, lambda: group.run(work, **options), own_clock=True)


def ratio(
    run: Run, case: str, ours: str, peers: Sequence[str], times: dict[str, list[float]],
    target: float, error: float | None = None,
) -> Row:  # fmt: skip
    """Add the row of ours against the fastest of the peers, ratios taken round by round."""
    best = min(peers, key=lambda name: statistics.median(times[name]))
    ratios = [peer / own for peer, own in zip(times[best], times[ours], strict=True)]
    medians = (statistics.median(times[name]) for name in (ours, best))
    return run.benchmark.add(
        Row(case, *medians, "s", statistics.median(ratios), spread(ratios), target, error, best)
    )


def wrong(name: str, error: float, tolerance: float) -> float:
    """Give the error, or raise `ArithmeticError`: a wrong answer has no speed."""
    if not error <= tolerance:
        raise ArithmeticError(f"{name}: error {error:.1e} > {tolerance:.1e}")
    return error


# -- the exchange ----------------------------------------------------------------------------------


def copying(run: Run) -> dict[str, int]:
    """Have copies made; give the bytes that each moves, by name."""
    found = {}
    for form, memory in COPIES:
        name = f"{form} in {memory} pages"
        facts = run.two.make(name, "copy", form=form, memory=memory, quick=run.quick)
        found[name] = facts["bytes"]
    return found


def keep_bandwidth(run: Run, moved: dict[str, int], times: dict[str, list[float]]) -> None:
    """Note the rate of each copy, and forget the copies."""
    for name, size in moved.items():
        run.copies[name] = size / statistics.median(times[name])
        run.two.drop(name)
    listed = ", ".join(f"{name} {rate / 1e9:.1f} GB/s" for name, rate in run.copies.items())
    run.benchmark.notes.append(f"both workers at once, read and written: {listed}")


def measure_copies(run: Run) -> None:
    """Measure the copies alone, where the exchange is not measured."""
    moved = copying(run)
    keep_bandwidth(run, moved, run.benchmark.times([contestant(run.two, name) for name in moved]))


def exchange(run: Run) -> None:
    """Add the rows of the exchange alone."""
    quick, bytes_of, errors = run.quick, {}, {}
    everybody: list[Contestant] = []

    def enter(group: Group, work: str, name: str = "", **options: Any) -> str:
        name = name or work
        errors[name] = wrong(name, group.check(work, **options)["error"], EXACT)
        everybody.append(contestant(group, work, name, **options))
        return name

    ours: dict[str, str] = {}
    for a in AVERAGES:
        ours[a] = f"ours {a}"
        bytes_of[a] = run.two.make(ours[a], "exchange", average=a, quick=quick)["bytes"]
        enter(run.two, ours[a])
    run.two.make("published", "published", quick=quick)
    published = [enter(run.two, "published", f"published, {f}", form=f) for f in PUBLISHED]
    gloo: dict[str, list[str]] = {average: [] for average in AVERAGES}
    if run.torch is not None:
        run.torch.make("gloo", "gloo", quick=quick)
        for a in AVERAGES:
            gloo[a] = [
                enter(run.torch, "gloo", f"gloo {a}, {form}", form=form, average=a) for form in GLOO
            ]
    moved = copying(run)
    times = run.benchmark.times([*everybody, *(contestant(run.two, name) for name in moved)])
    keep_bandwidth(run, moved, times)
    for a in AVERAGES:
        of_copy(run, a, times, moved, bytes_of[a], errors[ours[a]])
    exchange_rows(run, times, published, gloo, errors)
    for name in (*ours.values(), "published"):
        run.two.drop(name)
    if run.torch is not None:
        run.torch.drop("gloo")


def of_copy(
    run: Run, average: str, times: dict[str, list[float]], moved: dict[str, int], size: int,
    error: float,
) -> None:  # fmt: skip
    """Hold the bytes that an exchange reads and writes against those of the best copy."""
    touched = 2 * WORKERS * size  # each number is read and written once for each worker
    rates = [touched / seconds / 1e9 for seconds in times[f"ours {average}"]]
    copies = [moved[run.best_copy] / seconds / 1e9 for seconds in times[run.best_copy]]
    ratios = [ours / copy for ours, copy in zip(rates, copies, strict=True)]
    case, medians = f"exchange of {CALLED[average]}", map(statistics.median, (rates, copies))
    run.benchmark.add(
        Row(f"{case}, of copy bandwidth", *medians, "GB/s", statistics.median(ratios),
            spread(ratios), BANDWIDTH, error, run.best_copy)
    )  # fmt: skip


def exchange_rows(
    run: Run, times: dict[str, list[float]], published: Sequence[str],
    gloo: dict[str, list[str]], errors: dict[str, float],
) -> None:  # fmt: skip
    """Add the rows of the exchange beside the others' ways."""
    ratio(
        run, f"exchange of {CALLED['params']}, the published way", "ours params", published,
        times, PUBLISHED_WAY, errors["ours params"],
    )  # fmt: skip
    for a in AVERAGES:
        case, ours = f"exchange of {CALLED[a]}, gloo", f"ours {a}"
        if not run.without_torch(case):
            ratio(run, case, ours, gloo[a], times, PEER, errors[ours])
    case = "exchange, gradients beside weights and momenta"
    ratio(run, case, "ours grads", ["ours params"], times, 0.0)
    tell(run, "the exchange", {n: times[n] for n in (*published, *gloo["params"], *gloo["grads"])})


def tell(run: Run, what: str, times: dict[str, list[float]]) -> None:
    """Note the medians of all who raced, the slower ones too."""
    listed = ", ".join(f"{name} {statistics.median(each):.3g} s" for name, each in times.items())
    run.benchmark.notes.append(f"{what}: {listed}")


# -- the update ----------------------------------------------------------------------------------


def update(run: Run) -> None:
    """Add the row of an update that is shared out beside one that every worker makes whole."""
    errors, names = {}, {"update shared out": True, "whole update": False}
    for name, shared in names.items():
        run.two.make(name, "update", shared=shared, quick=run.quick)
        errors[name] = wrong(name, run.two.check(name)["error"], EXACT)
    times = run.benchmark.times([contestant(run.two, name) for name in names])
    (ours, error), (whole, _) = errors.items()
    ratio(run, "update, shared out beside whole", ours, [whole], times, 0.0, error)
    for name in names:
        run.two.drop(name)


# -- steps -----------------------------------------------------------------------------------------


def momenta(run: Run, group: Group, name: str) -> dict[str, Any]:
    """Have a step checked, and give what it wrote."""
    file = run.folder / "step.npz"
    group.check(name, file)
    with np.load(file) as found:
        result = {key: found[key] for key in found.files}
    file.unlink()
    return result


def steps(run: Run, batch: int) -> None:
    """Add the rows of a step with so many images a worker."""
    quick, whole = run.quick, batch * WORKERS
    case = f"alexnet b={WORKERS}x{batch} fp32"
    run.one.make("both", "alone", rows=whole, whole=whole, quick=quick)
    reference = momenta(run, run.one, "both")
    run.one.drop("both")
    # several nets, each with the activations of so many images, do not fit into a small machine
    groups = {"alone": run.one} | ({"apart": run.two} if batch < LONG else {})
    for name, group in groups.items():
        group.make(name, "alone", rows=batch, whole=whole, quick=quick)
    averages = AVERAGES if batch < LONG else AVERAGES[:1]
    wanted = {average: (average, True) for average in averages}
    wanted |= {WHOLE: ("grads", False)} if "grads" in averages else {}
    errors, bytes_of, chosen = {}, {}, []
    for name, (average, shared) in wanted.items():
        options = {"rows": batch, "whole": whole, "average": average, "quick": quick}
        size = run.two.make(name, "step", shared=shared, **options)["bytes"]
        groups[name] = run.two
        found = relative_error(momenta(run, run.two, name), reference)
        errors[name] = wrong(f"{case} {name}", found, TOLERANCE)
        bytes_of |= {name: size} if shared else {}
    if run.torch is not None:
        chosen = [best_of_ddp(run, run.torch, case, batch, reference)]
        groups[chosen[0]] = run.torch
    del reference
    times = in_rounds(run, batch, [contestant(group, name) for name, group in groups.items()])
    scaling(run, case, batch, times, bytes_of, errors)
    for average in averages:
        if "apart" in times:
            row = f"{case} {average}, beside two that exchange nothing"
            ratio(run, row, average, ["apart"], times, 1 - MODEL, errors[average])
        row = f"{case} {average}, DDP"
        if not run.without_torch(row):
            ratio(run, row, average, chosen, times, PEER, errors[average])
    if "grads" in averages:
        others = {"grads beside params": "params", "grads, update shared out beside whole": WHOLE}
        for row, other in others.items():
            ratio(run, f"{case}, {row}", "grads", [other], times, 0.0, errors["grads"])
    for name, group in groups.items():
        group.drop(name)


def in_rounds(run: Run, batch: int, all_of_them: list[Contestant]) -> dict[str, list[float]]:
    """Race, in fewer rounds where a step is long."""
    rounds = run.benchmark.rounds
    run.benchmark.rounds = min(rounds, FEW) if batch >= LONG else rounds
    try:
        return run.benchmark.times(all_of_them)
    finally:
        run.benchmark.rounds = rounds


def scaling(
    run: Run, case: str, batch: int, times: dict[str, list[float]], bytes_of: dict[str, int],
    errors: dict[str, float],
) -> None:  # fmt: skip
    """Hold one worker's time / two workers' against the model, and against the target."""
    alone = statistics.median(times["alone"])
    for average, size in bytes_of.items():
        moved = 2 * WORKERS * size  # each number is read and written once for each worker
        expected = alone / (alone + moved / run.bandwidth)
        run.benchmark.notes.append(
            f"{case} {average}: model: {alone:.3f} s alone, and {moved / 1e9:.2f} GB at "
            f"{run.bandwidth / 1e9:.1f} GB/s are {moved / run.bandwidth:.3f} s more: "
            f"{expected:.1%} of one worker's speed each"
        )
        reached = [one / two for one, two in zip(times["alone"], times[average], strict=True)]
        error = errors[average]
        name = f"{case} {average}, weak scaling"
        run.benchmark.ceiling(
            f"{name} beside the model", reached, expected, 1 - MODEL / expected, "", error
        )
        if batch in SCALING:
            run.benchmark.ceiling(name, reached, 1.0, SCALING[batch], "", error)


def best_of_ddp(run: Run, group: Group, case: str, batch: int, reference: dict[str, Any]) -> str:
    """Check and try every setting of DDP, and leave the best one made."""
    tried: dict[str, float] = {}
    options = {"rows": batch, "whole": batch * WORKERS, "quick": run.quick}
    for name in DDP[-2:] if run.quick else DDP:
        group.make(name, "ddp", setting=name, **options)
        found = relative_error(momenta(run, group, name), reference)
        wrong(f"{case} {name}", found, TOLERANCE)
        tried[name] = min(group.run(name) for _ in range(TRIES))
        group.drop(name)
    tell(run, f"{case}: tried", {name: [seconds] for name, seconds in tried.items()})
    best = min(tried, key=lambda name: tried[name])
    group.make(best, "ddp", setting=best, **options)
    return best


def options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this script."""
    parser.add_argument("--case", type=list_of(CASES), default=list(CASES),
                        help="what is measured (default: exchange,update,step)")  # fmt: skip
    parser.add_argument("--batch", type=sizes, default=[32, 128], help="images a worker (32,128)")


def end(number: int, frame: FrameType | None) -> None:
    """End in order, so that no file is left."""
    raise SystemExit(128 + number)


def main() -> int:
    """Measure, interleaved."""
    benchmark = start("data_parallel", __doc__, rounds=9, warmup=1, options=options)
    signal.signal(signal.SIGTERM, end)
    for name in DROPPED:
        os.environ.pop(name, None)
    surroundings = {**environment(1), "SYMGRAPH_THREADS": "1"}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        def started(workers: int) -> Group:
            return stack.enter_context(Group(PROGRAM, workers, folder, surroundings))

        one, two = started(1), started(WORKERS)
        torch = None
        if installed("torch"):  # its threads and its heap stay away from ours
            torch = two if benchmark.quick else started(WORKERS)
        run = Run(benchmark, folder, one, two, torch)
        benchmark.helpers = lambda: sum(group.spent() for group in {one, two, torch or two})
        if "exchange" in benchmark.chosen.case:
            exchange(run)
        else:
            measure_copies(run)
        if "update" in benchmark.chosen.case:
            update(run)
        for batch in [2] if benchmark.quick else benchmark.chosen.batch:
            if "step" in benchmark.chosen.case:
                steps(run, batch)
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
