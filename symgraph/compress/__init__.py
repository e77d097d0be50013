"""Compression: models that compute about the same with less.

One file for each method. Each works on any model: on a graph, which is rewritten, or on the modules
of a network, which are exchanged. May import `nn`, `optim`, `data`, `parallel` and everything above
them.
"""

from symgraph.compress.freeze import Freezing, factor_sets, freeze_sets
from symgraph.compress.lowrank import (
    Decomposition,
    LowRankLayer,
    decompose,
    decompose_layers,
    merge,
    merge_layers,
    sketch,
)
from symgraph.compress.ranks import (
    break_even,
    factorised,
    flops,
    parameters,
    ranks_of_error,
    ranks_of_ratio,
)

__all__ = [
    "Decomposition", "Freezing", "LowRankLayer", "break_even", "decompose", "decompose_layers",
    "factor_sets", "factorised", "flops", "freeze_sets", "merge", "merge_layers", "parameters",
    "ranks_of_error", "ranks_of_ratio", "sketch",
]  # fmt: skip
