"""Neural networks: modules hold shared variables and build graph when called.

`module.py` is the contract, `init.py` the initialisers, one file for each family of layers.
May import `debug`, `function`, `ops` and everything above them.
"""

from symgraph.nn import init
from symgraph.nn.activation import Activation, Dropout
from symgraph.nn.attention import MultiHeadAttention, TransformerBlock
from symgraph.nn.conv import Conv2d
from symgraph.nn.dense import Dense, Flatten
from symgraph.nn.embedding import Embedding
from symgraph.nn.module import Module, Sequential
from symgraph.nn.norm import BatchNorm, LayerNorm, LocalResponseNorm
from symgraph.nn.pool import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from symgraph.nn.recurrent import GRU, LSTM, RNN
from symgraph.ops.losses import cross_entropy

LRN = LocalResponseNorm
__all__ = [
    "GRU", "LRN", "LSTM", "RNN", "Activation", "AvgPool2d", "BatchNorm", "Conv2d", "Dense",
    "Dropout", "Embedding", "Flatten", "GlobalAvgPool2d", "LayerNorm", "LocalResponseNorm",
    "MaxPool2d", "Module", "MultiHeadAttention", "Sequential", "TransformerBlock", "cross_entropy",
    "init",
]  # fmt: skip
