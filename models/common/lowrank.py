"""Low-rank training of any classifier: five strategies by one flag, and their ranks.

What is decomposed and how is in `symgraph.compression`; here is what a run needs on top: flags,
settings that a checkpoint keeps, a search before the run begins.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import symgraph as sg
from models.common import saved
from models.common.classifier import Classifier, open_data
from models.common.commandline import ModelParser, positive_float
from models.common.runs import find_checkpoint
from models.common.workers import backend_of, wanted_workers
from symgraph.compression import DeviceTimer, decompose_layers, rank_search
from symgraph.errors import ArgumentError

LONGEST = 1 << 20  # characters of ranks in a checkpoint


@dataclass(frozen=True)
class Strategy:
    """What a strategy does: decompose, search for ranks, freeze by which policy."""

    low: bool
    search: bool
    policy: str


#                            low    search  freezing
STRATEGIES = {
    "original":    Strategy(False, False, "none"),
    "low-rank":    Strategy(True,  False, "none"),
    "rank-search": Strategy(True,  True,  "none"),
    "freezing":    Strategy(True,  False, "sequential"),
    "combined":    Strategy(True,  True,  "sequential"),
}  # fmt: skip


def add_strategy_flags(parser: ModelParser) -> None:
    """Add the flags of low-rank training."""
    add = parser.add_model_argument
    add(
        "--strategy", choices=tuple(STRATEGIES), default="original",
        help="low-rank: factors in the place of layers; rank-search: of ranks that this device "
        "computes well; freezing: factors that are trained in turn, by epoch; combined: both",
    )  # fmt: skip
    add(
        "--compression", type=positive_float, default=2.0, metavar="X",
        help="how many times fewer numbers a layer has as factors",
    )  # fmt: skip
    add(
        "--ranks", default="", metavar="JSON",
        help="ranks of layers by name, found before: no search. A checkpoint holds them",
    )  # fmt: skip
    parser.train.add_argument(
        "--start-from", metavar="PATH",
        help="begin with the weights of a checkpoint of the dense network: a file or a run folder",
    )  # fmt: skip


def with_strategy(
    model: Classifier, strategy: str = "original", compression: float = 2.0, ranks: str = ""
) -> Classifier:
    """Make a classifier whose networks are decomposed as a strategy says.

    `ranks` is JSON: ranks by layer, with [] for one that stays dense; without it they are those of
    the compression. Raises `ArgumentError` for another strategy and for ranks that are none.
    """
    if strategy not in STRATEGIES:
        raise ArgumentError(
            f"{model.name}: strategy must be one of {', '.join(STRATEGIES)}, got {strategy!r:.40}."
        )
    if not compression >= 1:
        raise ArgumentError(f"{model.name}: compression must be >= 1, got {compression}.")
    chosen, known = STRATEGIES[strategy], _parsed(ranks)
    make = model.variant

    def variant(strategy: str, compression: float, ranks: str, **settings: Any) -> Classifier:
        dense = model if make is None else make(**settings)
        return with_strategy(dense, strategy, compression, ranks)

    def shrink(net: sg.nn.Module) -> None:
        if chosen.low:
            decompose_layers(net, **({"ranks": known} if known else {"ratio": compression}))

    return replace(
        model,
        settings={
            **model.settings, "strategy": strategy, "compression": compression, "ranks": ranks,
        },
        variant=variant,
        shrink=shrink,
        policy=chosen.policy,
    )  # fmt: skip


def choose_ranks(model: Classifier, chosen: argparse.Namespace) -> None:
    """Search for ranks where the command line asks for it, once for all processes of a run.

    They become `--ranks`, so that other processes, and a run that goes on, have the same network.
    """
    strategy = STRATEGIES[getattr(chosen, "strategy", "original")]
    if not strategy.search or chosen.ranks or chosen.resume is not None:
        return
    if chosen.engine == "mpi":
        raise ArgumentError(
            "--engine mpi: every process would search for ranks of its own.",
            fix="search in one process, --max-steps 1, and give --ranks from its checkpoint",
        )
    dense = model.with_settings(vars(chosen) | {"strategy": "original"})
    net = dense.make(len(open_data(chosen.data, dense.size).train.classes), start_of(dense, chosen))
    rows = max(1, chosen.batch // wanted_workers(chosen))
    timer = DeviceTimer(backend_of(chosen))
    shape = (rows, 3, dense.crop, dense.crop)
    found = rank_search(net, shape, ratio=chosen.compression, timer=timer)
    chosen.ranks = json.dumps(found.ranks)
    chosen.words = [*chosen.words, "--ranks", chosen.ranks]
    if not chosen.quiet:
        before, after = found.seconds
        low = sum(1 for ranks in found.ranks.values() if ranks)
        print(
            f"rank search: {low} of {len(found.ranks)} layers in factors, "
            f"{1e3 * before:.1f} -> {1e3 * after:.1f} ms",
            flush=True,
        )


def start_of(model: Classifier, chosen: argparse.Namespace) -> Any:
    """Give the checkpoint of `--start-from`, None where there is none."""
    path = getattr(chosen, "start_from", None)
    if path is None or chosen.resume is not None:
        return None
    return saved.load(find_checkpoint(path, model.name), model.name)


def _parsed(text: str) -> Mapping[str, list[int]] | None:
    """Read ranks; raises `ArgumentError` where they are none."""
    if not text:
        return None
    try:
        found = json.loads(text) if len(text) <= LONGEST else None
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict) and all(map(_is_ranks, found.values())):
        return found
    raise ArgumentError(
        f"ranks must be JSON, a list of ranks for each layer, got {text!r:.60}.",
        fix="""--ranks '{"stages.0.0.branch.0": [16, 16]}'""",
    )


def _is_ranks(value: Any) -> bool:
    return isinstance(value, list) and all(type(rank) is int for rank in value)
