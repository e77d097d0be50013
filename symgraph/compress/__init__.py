"""Compression: models that compute about the same with less.

One file for each method. Each works on any model: on a graph, which is rewritten, or on the modules
of a network, which are exchanged. May import `nn`, `optim`, `data`, `parallel` and everything above
them.
"""

import sys
from types import ModuleType
from typing import Any

from symgraph import ops
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
from symgraph.compress.rank_search import DeviceTimer, RankSearch, Work, rank_search
from symgraph.compress.ranks import (
    break_even,
    factorised,
    flops,
    parameters,
    ranks_of_error,
    ranks_of_ratio,
)
from symgraph.compress.staircase import Staircase
from symgraph.graph.node import Value

__all__ = [
    "Decomposition", "DeviceTimer", "Freezing", "LowRankLayer", "RankSearch", "Staircase", "Work",
    "break_even", "decompose", "decompose_layers", "factor_sets", "factorised", "flops",
    "freeze_sets", "merge", "merge_layers", "parameters", "rank_search", "ranks_of_error",
    "ranks_of_ratio", "sketch",
]  # fmt: skip


class _Folder(ModuleType):
    """A folder that NumPy's function of the same name has to share its place with."""

    def __call__(self, condition: Any, x: Any, axis: int | None = None) -> Value:
        """Select by a mask, as `symgraph.ops.compress`."""
        return ops.compress(condition, x, axis)


sys.modules[__name__].__class__ = _Folder
