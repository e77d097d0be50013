"""What a graph costs, before anything runs: FLOPs, bytes and memory as formulas in the sizes.

`flops` derives counts from what each operation says of itself in `expand`; `liveness` finds what is
in memory at each step; `envelope` keeps a maximum of formulas short, `formulas` makes them fast;
`report` holds the answer, `fit` and `limit` ask what fits. May import: errors, config, dims, graph,
ops, autodiff.
"""

from symgraph.cost.report import Cost, cost

__all__ = ["Cost", "cost"]
