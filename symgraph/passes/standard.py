"""The passes that every function runs: importing this module registers them."""

from symgraph.passes.branches import branches
from symgraph.passes.canonical import canonical
from symgraph.passes.clean import dead_code
from symgraph.passes.inline import inline
from symgraph.passes.loops import loops
from symgraph.passes.stabilise import stabilise
from symgraph.passes.taps import taps

__all__ = ["branches", "canonical", "dead_code", "inline", "loops", "stabilise", "taps"]
