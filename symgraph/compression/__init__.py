"""Compression: models that compute about the same with less.

One file for each method. Each works on any model: on a graph, which is rewritten, or on the modules
of a network, which are exchanged; `inr.py` makes small networks of images. May import `nn`,
`optim`, `data`, `parallel` and everything above them.
"""

from symgraph.compression.flatten import FlattenedLayer, Flattening, flatten, flatten_layers
from symgraph.compression.inr import Course, Fitting, encode
from symgraph.compression.inr_smaller import Smaller, smaller

__all__ = [
    "Course", "Fitting", "FlattenedLayer", "Flattening", "Smaller", "encode", "flatten",
    "flatten_layers", "smaller",
]  # fmt: skip
