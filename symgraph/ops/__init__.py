"""The operations, one file for each family; importing this package registers them all.

Each operation is complete in its file: `infer ref vjp expand samples bad`. Files here import
nothing from each other, except a family its own parts; they meet through `F`. What the package
exports is what users see as `sg.name`; the rest is in `F`. May import `graph` and above.
"""

# fmt: off
# ruff: noqa: I001
from symgraph.ops import (  # noqa: F401 - registers
    adaptive_max, avg_pool, barrier, branch, conv, eigen, factor, fourier, fourier_functions,
    inverse, loop, matrix_functions, norms, pool, portable, prod_others, random, random_attempts,
    random_choices, random_laws, resize, siren, siren_gradient, slicing, solve,
)
from symgraph.ops.activation import elu, gelu, leaky_relu, relu, sigmoid, silu, softplus
from symgraph.ops.activation_more import (
    celu, glu, hardshrink, hardsigmoid, hardswish, hardtanh, log_sigmoid, mish, prelu, relu6, selu,
    softshrink, softsign, swish, tanhshrink, threshold,
)
from symgraph.ops.along_axis import take_along_axis
from symgraph.ops.argreduce import argmax, argmin
from symgraph.ops.arithmetic import (
    abs, add, cast, ceil, clip, divide, floor, floor_divide, maximum, minimum, multiply,
    negative, positive, pow, reciprocal, remainder, round, rsqrt, sign, sqrt, square, stop_gradient,
    subtract, trunc, where,
)
from symgraph.ops.at import inc_subtensor, set_subtensor
from symgraph.ops.attention import scaled_dot_product_attention
from symgraph.ops.axes import expand_dims, flatten, moveaxis, squeeze, swapaxes
from symgraph.ops.comparison import (
    bitwise_and, bitwise_invert, bitwise_left_shift, bitwise_or, bitwise_right_shift,
    bitwise_xor, equal, greater, greater_equal, isfinite, isinf, isnan, less, less_equal,
    logical_and, logical_not, logical_or, logical_xor, not_equal,
)
from symgraph.ops.control import dropout
from symgraph.ops.control_flow import cond, ifelse, switch, while_loop
from symgraph.ops.complex_numbers import angle, complex, conj, imag, real
from symgraph.ops.conv_functions import (
    conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d,
)
from symgraph.ops.create import arange, eye, full, full_like, ones, ones_like, zeros, zeros_like
from symgraph.ops.create_functions import (
    asarray, astype, empty, empty_like, from_dlpack, linspace,
)
from symgraph.ops.cumulative import cummax, cummin, cumulative_prod, cumulative_sum
from symgraph.ops.diagonals import cross, diag, diagonal, kron, trace, tril, triu
from symgraph.ops.einsum import einsum
from symgraph.ops.floating import (
    allclose, copysign, deg2rad, fmod, heaviside, hypot, isclose, lerp, nextafter, rad2deg,
    signbit,
)
from symgraph.ops.ctc import ctc_loss
from symgraph.ops.embedding import embedding
from symgraph.ops.gather import gather, scatter_add, take
from symgraph.ops.gradients import clip_gradient, reverse_gradient, scale_gradient
from symgraph.ops.images import crop_mirror
from symgraph.ops.index import one_hot
from symgraph.ops.join import concat, split, stack
from symgraph.ops.linalg import dot, matmul, matrix_transpose, outer, tensordot, vecdot
from symgraph.ops.logarithmic import entr, expit, logit, xlog1py, xlogy
from symgraph.ops.losses import binary_cross_entropy_with_logits, cross_entropy
from symgraph.ops.losses_distance import (
    cosine_similarity, pairwise_distance, triplet_margin_loss,
)
from symgraph.ops.losses_elementwise import (
    binary_cross_entropy, gaussian_nll_loss, hinge_loss, huber_loss, kl_div, l1_loss, mse_loss,
    poisson_nll_loss, smooth_l1_loss, squared_hinge_loss,
)
from symgraph.ops.lrn import local_response_norm
from symgraph.ops.manipulation import (
    broadcast_arrays, diff, meshgrid, nan_to_num, repeat, roll, tile, unstack,
)
from symgraph.ops.norm import batch_norm, batch_norm_inference, layer_norm, rms_norm
from symgraph.ops.order_statistics import isin, median, quantile
from symgraph.ops.norm_groups import group_norm, instance_norm
from symgraph.ops.pad import flip, pad
from symgraph.ops.pixels import pixel_shuffle, pixel_unshuffle
from symgraph.ops.pool_functions import (
    avg_pool1d, avg_pool2d, avg_pool3d, global_avg_pool1d, global_avg_pool2d, global_avg_pool3d,
    global_max_pool1d, global_max_pool2d, global_max_pool3d, max_pool1d, max_pool2d, max_pool3d,
)
from symgraph.ops.reduce import all, any, max, min, prod, sum
from symgraph.ops.scan import foldl, foldr, map, reduce, scan, until
from symgraph.ops.scatter import scatter
from symgraph.ops.selected import argwhere, as_size, compress, flatnonzero, nonzero
from symgraph.ops.segment import (
    segment_max, segment_mean, segment_min, segment_prod, segment_sum,
)
from symgraph.ops.shape import broadcast_to, permute_dims, reshape, transpose
from symgraph.ops.softmax import log_softmax, logsumexp, softmax
from symgraph.ops.sorting import argsort, searchsorted, sort
from symgraph.ops.resize_functions import (
    adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d, adaptive_max_pool1d,
    adaptive_max_pool2d, adaptive_max_pool3d, interpolate, upsample,
)
from symgraph.ops.special_bessel import exprel, i0, i0e, i1, i1e, j0, j1, sinc, spherical_jn
from symgraph.ops.special_gamma import beta, betaln, digamma, gamma, gammaln, lgamma, polygamma
from symgraph.ops.special_incomplete import gammainc, gammaincc
from symgraph.ops.special_normal import erfcinv, erfinv, log_ndtr, ndtr, ndtri
from symgraph.ops.specify import specify_shape
from symgraph.ops.statistics import count_nonzero, mean, std, var
from symgraph.ops.tap import tap
from symgraph.ops.topk import topk
from symgraph.ops.transcendental import (
    acos, acosh, asin, asinh, atan, atan2, atanh, cos, cosh, erf, erfc, exp, exp2, expm1, log,
    log10, log1p, log2, logaddexp, sin, sinh, tan, tanh,
)
from symgraph.ops.unique import unique_all, unique_counts, unique_inverse, unique_values

__all__ = [
    "abs", "acos", "acosh", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "add", "all", "allclose",
    "angle", "any", "arange", "argmax", "argmin", "argsort", "argwhere", "as_size", "asarray",
    "asin", "asinh", "astype", "atan", "atan2", "atanh", "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "batch_norm", "batch_norm_inference", "beta", "betaln", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "bitwise_and", "bitwise_invert", "bitwise_left_shift",
    "bitwise_or", "bitwise_right_shift", "bitwise_xor", "broadcast_arrays", "broadcast_to", "cast",
    "ceil", "celu", "clip", "clip_gradient", "complex", "compress", "concat", "cond", "conj",
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "copysign", "cos", "cosh", "cosine_similarity", "count_nonzero", "crop_mirror", "cross",
    "cross_entropy", "ctc_loss", "cummax", "cummin", "cumulative_prod", "cumulative_sum", "deg2rad",
    "diag", "diagonal", "diff", "digamma", "divide", "dot", "dropout", "einsum", "elu", "embedding",
    "empty", "empty_like", "entr", "equal", "erf", "erfc", "erfcinv", "erfinv", "exp", "exp2",
    "expand_dims", "expit", "expm1", "exprel", "eye", "flatnonzero", "flatten", "flip", "floor",
    "floor_divide", "fmod", "foldl", "foldr", "from_dlpack", "full", "full_like", "gamma",
    "gammainc", "gammaincc", "gammaln", "gather", "gaussian_nll_loss", "gelu", "global_avg_pool1d",
    "global_avg_pool2d", "global_avg_pool3d", "global_max_pool1d", "global_max_pool2d",
    "global_max_pool3d", "glu", "greater", "greater_equal", "group_norm", "hardshrink",
    "hardsigmoid", "hardswish", "hardtanh", "heaviside", "hinge_loss", "huber_loss", "hypot", "i0",
    "i0e", "i1", "i1e", "ifelse", "imag", "inc_subtensor", "instance_norm", "interpolate",
    "isclose", "isfinite", "isin", "isinf", "isnan", "j0", "j1", "kl_div", "kron", "l1_loss",
    "layer_norm", "leaky_relu", "lerp", "less", "less_equal", "lgamma", "linspace",
    "local_response_norm", "log", "log10", "log1p", "log2", "log_ndtr", "log_sigmoid",
    "log_softmax", "logaddexp", "logical_and", "logical_not", "logical_or", "logical_xor", "logit",
    "logsumexp", "map", "matmul", "matrix_transpose", "max", "max_pool1d", "max_pool2d",
    "max_pool3d", "maximum", "mean", "median", "meshgrid", "min", "minimum", "mish", "moveaxis",
    "mse_loss", "multiply", "nan_to_num", "ndtr", "ndtri", "negative", "nextafter", "nonzero",
    "not_equal", "one_hot", "ones", "ones_like", "outer", "pad", "pairwise_distance",
    "permute_dims", "pixel_shuffle", "pixel_unshuffle", "poisson_nll_loss", "polygamma", "positive",
    "pow", "prelu", "prod", "quantile", "rad2deg", "real", "reciprocal", "reduce", "relu", "relu6",
    "remainder", "repeat", "reshape", "reverse_gradient", "rms_norm", "roll", "round", "rsqrt",
    "scale_gradient", "scaled_dot_product_attention", "scan", "scatter", "scatter_add",
    "searchsorted", "segment_max", "segment_mean", "segment_min", "segment_prod", "segment_sum",
    "selu", "set_subtensor", "sigmoid", "sign", "signbit", "silu", "sin", "sinc", "sinh",
    "smooth_l1_loss", "softmax", "softplus", "softshrink", "softsign", "sort", "specify_shape",
    "spherical_jn", "split", "sqrt", "square", "squared_hinge_loss", "squeeze", "stack", "std",
    "stop_gradient", "subtract", "sum", "swapaxes", "swish", "switch", "take", "take_along_axis",
    "tan", "tanh", "tanhshrink", "tap", "tensordot", "threshold", "tile", "topk", "trace",
    "transpose", "tril", "triplet_margin_loss", "triu", "trunc", "unique_all", "unique_counts",
    "unique_inverse", "unique_values", "unstack", "until", "upsample", "var", "vecdot", "where",
    "while_loop", "xlog1py", "xlogy", "zeros", "zeros_like",
]
# fmt: on
