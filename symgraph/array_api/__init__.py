"""The array API, 2024.12, computed when numbers are asked for: `import symgraph.array_api as xp`.

An `Array` wraps an expression of the graph; every function builds on it, and `float(x)`, `if x:`,
`print(x)`, `np.asarray(x)`, masks and sets compute. One file for each section of the standard.
May import `jit` and above.
"""

# ruff: noqa: I001
import sys

from symgraph.array_api import array, fft, linalg
from symgraph.array_api.array import Array
from symgraph.array_api.creation import (
    arange, asarray, empty, empty_like, eye, from_dlpack, full, full_like, linspace, meshgrid, ones,
    ones_like, tril, triu, zeros, zeros_like,
)  # fmt: skip
from symgraph.array_api.dtype import (
    DType, bfloat16, bool, complex128, complex64, float16, float32, float64, int16, int32, int64,
    int8, uint16, uint32, uint64, uint8,
)  # fmt: skip
from symgraph.array_api.dtypes import astype, can_cast, finfo, iinfo, isdtype, result_type
from symgraph.array_api.elementwise import (
    abs, acos, acosh, add, asin, asinh, atan, atan2, atanh, bitwise_and, bitwise_invert,
    bitwise_left_shift, bitwise_or, bitwise_right_shift, bitwise_xor, ceil, clip, conj, copysign,
    cos, cosh, divide, equal, exp, expm1, floor, floor_divide, greater, greater_equal, hypot, imag,
    isfinite, isinf, isnan, less, less_equal, log, log10, log1p, log2, logaddexp, logical_and,
    logical_not, logical_or, logical_xor, maximum, minimum, multiply, negative, nextafter,
    not_equal, positive, pow, real, reciprocal, remainder, round, sign, signbit, sin, sinh, sqrt,
    square, subtract, tan, tanh, trunc,
)  # fmt: skip
from symgraph.array_api.info import __array_namespace_info__
from symgraph.array_api.linalg import matmul, matrix_transpose, tensordot, vecdot
from symgraph.array_api.manipulation import (
    broadcast_arrays, broadcast_to, concat, expand_dims, flip, moveaxis, permute_dims, repeat,
    reshape, roll, squeeze, stack, take, take_along_axis, tile, unstack,
)  # fmt: skip
from symgraph.array_api.searching import (
    argsort, nonzero, searchsorted, sort, unique_all, unique_counts, unique_inverse, unique_values,
    where,
)  # fmt: skip
from symgraph.array_api.statistics import (
    all, any, argmax, argmin, count_nonzero, cumulative_prod, cumulative_sum, diff, max, mean, min,
    prod, std, sum, var,
)  # fmt: skip
from symgraph.graph.dsl import VERSIONS
from symgraph.graph.dtype_info import e, inf, nan, newaxis, pi

__array_api_version__ = VERSIONS[-1]
array.namespaces.append(sys.modules[__name__])

__all__ = [
    "Array", "DType", "__array_api_version__", "__array_namespace_info__", "abs", "acos", "acosh",
    "add", "all", "any", "arange", "argmax", "argmin", "argsort", "asarray", "asin", "asinh",
    "astype", "atan", "atan2", "atanh", "bfloat16", "bitwise_and", "bitwise_invert",
    "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "bool",
    "broadcast_arrays", "broadcast_to", "can_cast", "ceil", "clip", "complex128", "complex64",
    "concat", "conj", "copysign", "cos", "cosh", "count_nonzero", "cumulative_prod",
    "cumulative_sum", "diff", "divide", "e", "empty", "empty_like", "equal", "exp", "expand_dims",
    "expm1", "eye", "fft", "finfo", "flip", "float16", "float32", "float64", "floor",
    "floor_divide", "from_dlpack", "full", "full_like", "greater", "greater_equal", "hypot",
    "iinfo", "imag", "inf", "int16", "int32", "int64", "int8", "isdtype", "isfinite", "isinf",
    "isnan", "less", "less_equal", "linalg", "linspace", "log", "log10", "log1p", "log2",
    "logaddexp", "logical_and", "logical_not", "logical_or", "logical_xor", "matmul",
    "matrix_transpose", "max", "maximum", "mean", "meshgrid", "min", "minimum", "moveaxis",
    "multiply", "nan", "negative", "newaxis", "nextafter", "nonzero", "not_equal", "ones",
    "ones_like", "permute_dims", "pi", "positive", "pow", "prod", "real", "reciprocal", "remainder",
    "repeat", "reshape", "result_type", "roll", "round", "searchsorted", "sign", "signbit", "sin",
    "sinh", "sort", "sqrt", "square", "squeeze", "stack", "std", "subtract", "sum", "take",
    "take_along_axis", "tan", "tanh", "tensordot", "tile", "tril", "triu", "trunc", "uint16",
    "uint32", "uint64", "uint8", "unique_all", "unique_counts", "unique_inverse", "unique_values",
    "unstack", "var", "vecdot", "where", "zeros", "zeros_like",
]  # fmt: skip
