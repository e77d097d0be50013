"""The operations, one file for each family; importing this package registers them all.

Each operation is complete in its file: `infer ref vjp expand samples bad`. Files here import
nothing from each other, except a family its own parts; they meet through `F`. What the package
exports is what users see as `sg.name`; the rest is in `F`. May import `graph` and above.
"""

# fmt: off
# ruff: noqa: I001
from symgraph.ops import (  # noqa: F401 - registers
    adaptive_max, avg_pool, barrier, conv, pool, portable, prod_others, random, random_attempts,
    random_choices, random_laws, resize, slicing,
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
    negative, pow, reciprocal, remainder, round, rsqrt, sign, sqrt, square, stop_gradient,
    subtract, trunc, where,
)
from symgraph.ops.attention import scaled_dot_product_attention
from symgraph.ops.axes import expand_dims, flatten, moveaxis, squeeze, swapaxes
from symgraph.ops.comparison import (
    bitwise_and, bitwise_invert, bitwise_left_shift, bitwise_or, bitwise_right_shift,
    bitwise_xor, equal, greater, greater_equal, isfinite, isinf, isnan, less, less_equal,
    logical_and, logical_not, logical_or, logical_xor, not_equal,
)
from symgraph.ops.control import dropout
from symgraph.ops.conv_functions import (
    conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d,
)
from symgraph.ops.create import arange, eye, full, full_like, ones, ones_like, zeros, zeros_like
from symgraph.ops.ctc import ctc_loss
from symgraph.ops.embedding import embedding
from symgraph.ops.gather import gather, scatter_add, take
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
from symgraph.ops.norm import batch_norm, batch_norm_inference, layer_norm, rms_norm
from symgraph.ops.norm_groups import group_norm, instance_norm
from symgraph.ops.pad import flip, pad
from symgraph.ops.pixels import pixel_shuffle, pixel_unshuffle
from symgraph.ops.pool_functions import (
    avg_pool1d, avg_pool2d, avg_pool3d, global_avg_pool1d, global_avg_pool2d, global_avg_pool3d,
    global_max_pool1d, global_max_pool2d, global_max_pool3d, max_pool1d, max_pool2d, max_pool3d,
)
from symgraph.ops.reduce import all, any, max, min, prod, sum
from symgraph.ops.resize_functions import (
    adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d, adaptive_max_pool1d,
    adaptive_max_pool2d, adaptive_max_pool3d, interpolate, upsample,
)
from symgraph.ops.shape import broadcast_to, permute_dims, reshape, transpose
from symgraph.ops.softmax import log_softmax, logsumexp, softmax
from symgraph.ops.special_bessel import exprel, i0, i0e, i1, i1e, j0, j1, sinc, spherical_jn
from symgraph.ops.special_gamma import beta, betaln, digamma, gamma, gammaln, lgamma, polygamma
from symgraph.ops.special_incomplete import gammainc, gammaincc
from symgraph.ops.special_normal import erfcinv, erfinv, log_ndtr, ndtr, ndtri
from symgraph.ops.specify import specify_shape
from symgraph.ops.statistics import count_nonzero, mean, std, var
from symgraph.ops.topk import topk
from symgraph.ops.transcendental import (
    acos, acosh, asin, asinh, atan, atan2, atanh, cos, cosh, erf, erfc, exp, exp2, expm1, log,
    log10, log1p, log2, logaddexp, sin, sinh, tan, tanh,
)

__all__ = [
    "abs", "acos", "acosh", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "add", "all", "any",
    "arange", "argmax", "argmin", "asin", "asinh", "atan", "atan2", "atanh", "avg_pool1d",
    "avg_pool2d", "avg_pool3d", "batch_norm", "batch_norm_inference", "beta", "betaln",
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "bitwise_and", "bitwise_invert",
    "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "broadcast_to",
    "cast", "ceil", "celu", "clip", "concat", "conv1d", "conv2d", "conv3d", "conv_transpose1d",
    "conv_transpose2d", "conv_transpose3d", "cos", "cosh", "cosine_similarity", "count_nonzero",
    "crop_mirror", "cross_entropy", "ctc_loss", "digamma", "divide", "dot", "dropout", "elu",
    "embedding", "entr", "equal", "erf", "erfc", "erfcinv", "erfinv", "exp", "exp2", "expand_dims",
    "expit", "expm1", "exprel", "eye", "flatten", "flip", "floor", "floor_divide", "full",
    "full_like", "gamma", "gammainc", "gammaincc", "gammaln", "gather", "gaussian_nll_loss",
    "gelu", "global_avg_pool1d", "global_avg_pool2d", "global_avg_pool3d", "global_max_pool1d",
    "global_max_pool2d", "global_max_pool3d", "glu", "greater", "greater_equal", "group_norm",
    "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "hinge_loss", "huber_loss", "i0", "i0e",
    "i1", "i1e", "instance_norm", "interpolate", "isfinite", "isinf", "isnan", "j0", "j1",
    "kl_div", "l1_loss", "layer_norm", "leaky_relu", "less", "less_equal", "lgamma",
    "local_response_norm", "log", "log10", "log1p", "log2", "log_ndtr", "log_sigmoid",
    "log_softmax", "logaddexp", "logical_and", "logical_not", "logical_or", "logical_xor", "logit",
    "logsumexp", "matmul", "matrix_transpose", "max", "max_pool1d", "max_pool2d", "max_pool3d",
    "maximum", "mean", "min", "minimum", "mish", "moveaxis", "mse_loss", "multiply", "ndtr",
    "ndtri", "negative", "not_equal", "one_hot", "ones", "ones_like", "outer", "pad",
    "pairwise_distance", "permute_dims", "pixel_shuffle", "pixel_unshuffle", "poisson_nll_loss",
    "polygamma", "pow", "prelu", "prod", "reciprocal", "relu", "relu6", "remainder", "reshape",
    "rms_norm", "round", "rsqrt", "scaled_dot_product_attention", "scatter_add", "selu", "sigmoid",
    "sign", "silu", "sin", "sinc", "sinh", "smooth_l1_loss", "softmax", "softplus", "softshrink",
    "softsign", "specify_shape", "spherical_jn", "split", "sqrt", "square", "squared_hinge_loss",
    "squeeze", "stack", "std", "stop_gradient", "subtract", "sum", "swapaxes", "swish", "take",
    "take_along_axis", "tan", "tanh", "tanhshrink", "tensordot", "threshold", "topk", "transpose",
    "triplet_margin_loss", "trunc", "upsample", "var", "vecdot", "where", "xlog1py", "xlogy",
    "zeros", "zeros_like",
]
# fmt: on
