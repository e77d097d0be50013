"""Neural networks: modules hold shared variables and build graph when called.

`module.py` is the contract, `init.py` the initialisers, one file for each family of layers.
May import `debug`, `function`, `ops` and everything above them.
"""

from symgraph.nn import init
from symgraph.nn.activation import Activation, Dropout, PReLU
from symgraph.nn.attention import MultiHeadAttention, TransformerBlock
from symgraph.nn.conv import Conv2d, FlattenedConv
from symgraph.nn.dense import Dense, Flatten
from symgraph.nn.embedding import Embedding
from symgraph.nn.lowrank import LowRankConv2d, LowRankDense
from symgraph.nn.module import Module, Sequential
from symgraph.nn.norm import (
    BatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    LocalResponseNorm,
    RMSNorm,
)
from symgraph.nn.pool import (
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    AvgPool2d,
    GlobalAvgPool2d,
    MaxPool2d,
    Upsample,
)
from symgraph.nn.recurrent import GRU, LSTM, RNN
from symgraph.ops.attention import scaled_dot_product_attention
from symgraph.ops.ctc import ctc_loss
from symgraph.ops.losses import binary_cross_entropy_with_logits, cross_entropy
from symgraph.ops.losses_distance import cosine_similarity, triplet_margin_loss
from symgraph.ops.losses_elementwise import (
    binary_cross_entropy,
    gaussian_nll_loss,
    hinge_loss,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    poisson_nll_loss,
    smooth_l1_loss,
    squared_hinge_loss,
)

LRN = LocalResponseNorm
__all__ = [
    "Activation", "AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "AvgPool2d", "BatchNorm", "Conv2d",
    "Dense", "Dropout", "Embedding", "Flatten", "FlattenedConv", "GRU", "GlobalAvgPool2d",
    "GroupNorm", "InstanceNorm", "LRN", "LSTM", "LayerNorm", "LocalResponseNorm", "LowRankConv2d",
    "LowRankDense", "MaxPool2d", "Module", "MultiHeadAttention", "PReLU", "RMSNorm", "RNN",
    "Sequential", "TransformerBlock", "Upsample", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "cosine_similarity", "cross_entropy", "ctc_loss",
    "gaussian_nll_loss", "hinge_loss", "huber_loss", "init", "kl_div", "l1_loss", "mse_loss",
    "poisson_nll_loss", "scaled_dot_product_attention", "smooth_l1_loss", "squared_hinge_loss",
    "triplet_margin_loss",
]  # fmt: skip
