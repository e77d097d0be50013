"""Symbolic sizes: exact integer formulas in one normal form, and the rules of shapes.

A size is an int or a `Dim`. Comparisons are answered True or False where that holds for every
admissible value, and raise (or answer None, in `equal`, `less`, `less_equal`, `divides`) where it
depends; rules then record a `Guard`. Imports nothing of symgraph but its errors.
"""

from symgraph.dims import codec
from symgraph.dims.arithmetic import ceil_div, product, total
from symgraph.dims.bounds import bounds
from symgraph.dims.bridge import from_sympy, to_sympy
from symgraph.dims.core import Dim, Size, anonymous, as_size, dim, dims, is_symbol
from symgraph.dims.decide import Undecided, divides, equal, less, less_equal
from symgraph.dims.extrema import maximum, minimum
from symgraph.dims.guards import (
    Guard,
    collect_guards,
    require,
    require_divides,
    require_equal,
    require_less_equal,
    require_sizes,
)
from symgraph.dims.rules import broadcast_shapes, concat_sizes, reshape, split_sizes
from symgraph.dims.slices import slice_length
from symgraph.dims.solve import Progression, solutions, solve, solve_all
from symgraph.dims.text import latex, text
from symgraph.dims.walk import evaluate, evaluate_all, free, substitute
from symgraph.dims.windows import same_padding, window

__all__ = [
    "Dim",
    "Guard",
    "Progression",
    "Size",
    "Undecided",
    "anonymous",
    "as_size",
    "bounds",
    "broadcast_shapes",
    "ceil_div",
    "codec",
    "collect_guards",
    "concat_sizes",
    "dim",
    "dims",
    "divides",
    "equal",
    "evaluate",
    "evaluate_all",
    "free",
    "from_sympy",
    "is_symbol",
    "latex",
    "less",
    "less_equal",
    "maximum",
    "minimum",
    "product",
    "require",
    "require_divides",
    "require_equal",
    "require_less_equal",
    "require_sizes",
    "reshape",
    "same_padding",
    "slice_length",
    "solutions",
    "solve",
    "solve_all",
    "split_sizes",
    "substitute",
    "text",
    "to_sympy",
    "total",
    "window",
]
