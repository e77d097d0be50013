"""Races of whole networks: everybody is checked against float64, then trains or computes logits.

The reference is PyTorch in float64 on the same batch. Of a training step the loss and the gradient
of every parameter are compared, and the error is the largest of theirs, each as a ratio of norms;
of inference the logits. Next to a kink (relu, max_pool) either side is right, and gradients through
many layers multiply rounding: a contestant may be as far off as `TOLERANCE`, or twice as far as
PyTorch is in its plain setting and the same precision.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Iterable, Sequence

import ours
from harness import Benchmark, Contestant, relative_error, repeated
from ours import PRECISIONS, Problem, Unsupported

TOLERANCE = {
    ("train", "fp32"): 2e-2,
    ("infer", "fp32"): 1e-4,
    ("train", "tf32"): 5e-2,
    ("infer", "tf32"): 5e-3,
    ("train", "bf16"): 1e-1,
    ("infer", "bf16"): 5e-2,
}
PEERS = ("torch", "jax", "pytensor")
MODES = ("train", "infer")
WITHIN = 2.0  # times the best peer's time: slower ones do not race


def list_of(choices: Sequence[str]) -> Callable[[str], list[str]]:
    """Read a list with commas from the command line."""

    def read(text: str) -> list[str]:
        names = text.split(",")
        wrong = [name for name in names if name not in choices]
        if wrong:
            raise argparse.ArgumentTypeError(
                f"{', '.join(wrong)}: must be among {', '.join(choices)}"
            )
        return names

    return read


def sizes(text: str) -> list[int]:
    """Read sizes with commas between them from the command line."""
    found = [int(part) for part in text.split(",")]
    if min(found) < 1:
        raise argparse.ArgumentTypeError("sizes are >= 1")
    return found


def add_options(
    parser: argparse.ArgumentParser,
    cases: Sequence[str],
    batches: Sequence[int],
    modes: Sequence[str] = MODES,
    peers: Sequence[str] = PEERS,
    precisions: Sequence[str] = PRECISIONS,
) -> None:
    """Add the flags that choose rows; all are run by default."""

    def add(flag: str, kind: Callable[[str], object], values: Iterable[object], what: str) -> None:
        listed = list(values)
        text = ",".join(map(str, listed))
        parser.add_argument(flag, type=kind, default=listed, help=f"{what} (default: {text})")

    add("--case", list_of(cases), cases, "networks, with commas")
    add("--mode", list_of(modes), modes, "what they do")
    if batches:
        add("--batch", sizes, batches, "images in a batch")
    add("--precision", list_of(precisions), precisions, "precisions")
    add("--peers", list_of(peers), peers, "who races; PyTorch always checks")
    parser.add_argument("--backend", help="symgraph's backend (default: the one it chooses)")


def race(
    benchmark: Benchmark,
    case: str,
    problem: Problem,
    mode: str,
    precision: str,
    target: float,
    *,
    repeats: int = 1,
) -> None:
    """Add the row of a network that trains ("train") or computes logits ("infer").

    `repeats` runs in a row make one measurement, for steps shorter than a clock can tell.
    """
    from peers import contestants as peers

    make = {"train": ours.training, "infer": ours.inference}[mode]
    try:
        us: Contestant = make(problem, precision, benchmark.chosen.backend)
    except Unsupported as reason:
        benchmark.leave_out(case, str(reason))
        return
    reference = peers.exact(problem, mode)
    them = peers.contestants(problem, mode, precision, benchmark.chosen.peers)
    plain = relative_error(them[0].result(), reference)
    # made after the peers, so that nobody else's set-up changes what symgraph trains
    problem.reset()
    if repeats > 1:
        us, *them = (repeated(each, repeats) for each in (us, *them))
    benchmark.compare(
        case, us, them, target=target, reference=reference,
        tolerance=max(TOLERANCE[mode, precision], 2 * plain), within=WITHIN,
    )  # fmt: skip
    del us, them, reference
    peers.release()
    gc.collect()
