"""Looking at graphs: typed text, trees, formulas, pages to click through, files for other tools.

May import `function` and everything above it.
"""

import importlib
from typing import TYPE_CHECKING, Any

from symgraph.debug.latex import latex
from symgraph.debug.notebook import to_html
from symgraph.debug.show import show
from symgraph.debug.tree import debugprint
from symgraph.errors import UnknownNameError

if TYPE_CHECKING:
    from symgraph.debug.bisection import bisect_passes
    from symgraph.debug.checking import check
    from symgraph.debug.export import to_dot, to_graphml
    from symgraph.debug.gradients import check_gradient
    from symgraph.debug.page import draw
    from symgraph.debug.sympybridge import from_sympy, to_sympy

# imports cost time
_LATE = {
    "bisect_passes": "bisection", "check": "checking", "check_gradient": "gradients",
    "draw": "page", "to_dot": "export",
    "to_graphml": "export", "from_sympy": "sympybridge", "to_sympy": "sympybridge",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(importlib.import_module(f"symgraph.debug.{_LATE[name]}"), name)
    raise UnknownNameError(f"symgraph.debug has no member `{name}`.", fix="see dir(symgraph.debug)")


def __dir__() -> list[str]:
    return sorted(__all__)


__all__ = [
    "bisect_passes", "check", "check_gradient", "debugprint", "draw", "from_sympy", "latex", "show",
    "to_dot", "to_graphml", "to_html", "to_sympy",
]  # fmt: skip
