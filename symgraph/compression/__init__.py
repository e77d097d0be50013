"""Compression: models that compute about the same with less.

One file for each method. Each works on any model: on a graph, which is rewritten, or on the modules
of a network, which are exchanged; `inr.py` makes small networks of images. May import `nn`,
`optim`, `data`, `parallel` and everything above them.
"""

from symgraph.compression.flatten import FlattenedLayer, Flattening, flatten, flatten_layers
from symgraph.compression.freeze import Freezing, factor_sets, freeze_sets
from symgraph.compression.inr import Course, Fitting, encode
from symgraph.compression.inr_smaller import Smaller, smaller
from symgraph.compression.lowrank import (
    Decomposition,
    LowRankLayer,
    decompose,
    decompose_layers,
    merge,
    merge_layers,
    sketch,
)
from symgraph.compression.rank_search import DeviceTimer, RankSearch, Work, rank_search
from symgraph.compression.ranks import (
    break_even,
    factorised,
    flops,
    parameters,
    ranks_of_error,
    ranks_of_ratio,
)
from symgraph.compression.staircase import Staircase

__all__ = [
    "Course", "Decomposition", "DeviceTimer", "Fitting", "FlattenedLayer", "Flattening",
    "Freezing", "LowRankLayer", "RankSearch", "Smaller", "Staircase", "Work", "break_even",
    "decompose", "decompose_layers", "encode", "factor_sets", "factorised", "flatten",
    "flatten_layers", "flops", "freeze_sets", "merge", "merge_layers", "parameters", "rank_search",
    "ranks_of_error", "ranks_of_ratio", "sketch", "smaller",
]  # fmt: skip
