"""The operations, one file for each family; importing this package registers them all.

Each operation is complete in its file: `infer ref vjp expand samples bad`. Files here import
nothing from each other, except a family its own parts; they meet through `F`. What the package
exports is what users see as `sg.name`; the rest is in `F`. May import `graph` and above.
"""

# fmt: off
# ruff: noqa: I001
from symgraph.ops import (  # noqa: F401 - registers
    avg_pool, barrier, branch, conv, loop, pool, prod_others, random, slicing,
)
from symgraph.ops.activation import elu, gelu, leaky_relu, relu, sigmoid, silu, softplus
from symgraph.ops.along_axis import take_along_axis
from symgraph.ops.argreduce import argmax, argmin
from symgraph.ops.arithmetic import (
    abs, add, cast, ceil, clip, divide, floor, floor_divide, maximum, minimum, multiply,
    negative, pow, reciprocal, remainder, round, rsqrt, sign, sqrt, square, stop_gradient,
    subtract, trunc, where,
)
from symgraph.ops.axes import expand_dims, flatten, moveaxis, squeeze, swapaxes
from symgraph.ops.comparison import (
    bitwise_and, bitwise_invert, bitwise_left_shift, bitwise_or, bitwise_right_shift,
    bitwise_xor, equal, greater, greater_equal, isfinite, isinf, isnan, less, less_equal,
    logical_and, logical_not, logical_or, logical_xor, not_equal,
)
from symgraph.ops.control import dropout
from symgraph.ops.control_flow import cond, ifelse, switch, while_loop
from symgraph.ops.conv_functions import (
    conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d,
)
from symgraph.ops.create import arange, eye, full, full_like, ones, ones_like, zeros, zeros_like
from symgraph.ops.gather import gather, scatter_add, take
from symgraph.ops.images import crop_mirror
from symgraph.ops.index import one_hot
from symgraph.ops.join import concat, split, stack
from symgraph.ops.linalg import dot, matmul, matrix_transpose, outer, tensordot, vecdot
from symgraph.ops.losses import binary_cross_entropy_with_logits, cross_entropy
from symgraph.ops.lrn import local_response_norm
from symgraph.ops.norm import batch_norm, batch_norm_inference, layer_norm, rms_norm
from symgraph.ops.pad import flip, pad
from symgraph.ops.pool_functions import (
    avg_pool1d, avg_pool2d, avg_pool3d, global_avg_pool2d, global_max_pool2d, max_pool1d,
    max_pool2d, max_pool3d,
)
from symgraph.ops.reduce import all, any, max, min, prod, sum
from symgraph.ops.scan import foldl, foldr, map, reduce, scan, until
from symgraph.ops.shape import broadcast_to, permute_dims, reshape, transpose
from symgraph.ops.softmax import log_softmax, logsumexp, softmax
from symgraph.ops.specify import specify_shape
from symgraph.ops.statistics import count_nonzero, mean, std, var
from symgraph.ops.tap import tap
from symgraph.ops.topk import topk
from symgraph.ops.transcendental import (
    acos, acosh, asin, asinh, atan, atan2, atanh, cos, cosh, erf, erfc, exp, exp2, expm1, log,
    log10, log1p, log2, logaddexp, sin, sinh, tan, tanh,
)

__all__ = [
    "abs", "acos", "acosh", "add", "all", "any", "arange", "argmax", "argmin", "asin", "asinh",
    "atan", "atan2", "atanh", "avg_pool1d", "avg_pool2d", "avg_pool3d", "batch_norm",
    "batch_norm_inference", "binary_cross_entropy_with_logits", "bitwise_and", "bitwise_invert",
    "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "broadcast_to",
    "cast", "ceil", "clip", "concat", "cond", "conv1d", "conv2d", "conv3d", "conv_transpose1d",
    "conv_transpose2d", "conv_transpose3d", "cos", "cosh", "count_nonzero", "crop_mirror",
    "cross_entropy", "divide", "dot", "dropout", "elu", "equal", "erf", "erfc", "exp", "exp2",
    "expand_dims", "expm1", "eye", "flatten", "flip", "floor", "floor_divide", "foldl", "foldr",
    "full", "full_like", "gather", "gelu", "global_avg_pool2d", "global_max_pool2d", "greater",
    "greater_equal", "ifelse", "isfinite", "isinf", "isnan", "layer_norm", "leaky_relu", "less",
    "less_equal", "local_response_norm", "log", "log10", "log1p", "log2", "log_softmax",
    "logaddexp", "logical_and", "logical_not", "logical_or", "logical_xor", "logsumexp", "map",
    "matmul", "matrix_transpose", "max", "max_pool1d", "max_pool2d", "max_pool3d", "maximum",
    "mean", "min", "minimum", "moveaxis", "multiply", "negative", "not_equal", "one_hot", "ones",
    "ones_like", "outer", "pad", "permute_dims", "pow", "prod", "reciprocal", "reduce", "relu",
    "remainder", "reshape", "rms_norm", "round", "rsqrt", "scan", "scatter_add", "sigmoid", "sign",
    "silu", "sin", "sinh", "softmax", "softplus", "specify_shape", "split", "sqrt", "square",
    "squeeze", "stack", "std", "stop_gradient", "subtract", "sum", "swapaxes", "switch", "take",
    "take_along_axis", "tan", "tanh", "tap", "tensordot", "topk", "transpose", "trunc", "until",
    "var", "vecdot", "where", "while_loop", "zeros", "zeros_like",
]
# fmt: on
