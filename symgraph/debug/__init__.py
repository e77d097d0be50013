"""Looking at graphs: typed text, trees, formulas for notebooks.

May import `function` and everything above it.
"""

from symgraph.debug.latex import to_latex
from symgraph.debug.notebook import to_html
from symgraph.debug.show import show
from symgraph.debug.tree import debugprint

__all__ = ["debugprint", "show", "to_html", "to_latex"]
