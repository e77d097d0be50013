"""The passes that every function runs: importing this module registers them."""

from symgraph.passes.clean import dead_code
from symgraph.passes.fold import constant_folding

__all__ = ["constant_folding", "dead_code"]
