"""Compression: models that compute about the same with less.

One file for each method. Each works on any model: on a graph, which is rewritten, or on the modules
of a network, which are exchanged. May import `nn`, `optim`, `data`, `parallel` and everything above
them.
"""

from symgraph.compression.flatten import FlattenedLayer, Flattening, flatten, flatten_layers

__all__ = ["FlattenedLayer", "Flattening", "flatten", "flatten_layers"]
