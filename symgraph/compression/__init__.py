"""Compression: models that compute about the same with less.

One file for each method. Each works on any model: on a graph, which is rewritten, or on the modules
of a network, which are exchanged. May import `nn`, `optim`, `data`, `parallel` and everything above
them.
"""

from symgraph.compression.flatten import FlattenedLayer, Flattening, flatten, flatten_layers
from symgraph.compression.freeze import Freezing, factor_sets, freeze_sets
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
    "Decomposition", "DeviceTimer", "FlattenedLayer", "Flattening", "Freezing", "LowRankLayer",
    "RankSearch", "Staircase", "Work", "break_even", "decompose", "decompose_layers",
    "factor_sets", "factorised", "flatten", "flatten_layers", "flops", "freeze_sets", "merge",
    "merge_layers", "parameters", "rank_search", "ranks_of_error", "ranks_of_ratio", "sketch",
]  # fmt: skip
