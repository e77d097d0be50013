"""The passes that every function runs: importing this module registers them."""

from symgraph.passes.canonical import canonical
from symgraph.passes.clean import dead_code
from symgraph.passes.inline import inline
from symgraph.passes.stabilise import stabilise

__all__ = ["canonical", "dead_code", "inline", "stabilise"]
