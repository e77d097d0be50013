"""symgraph: a symbolic graph you can hold, differentiate, rewrite and run fast.

`import symgraph as sg`; declare inputs (`sg.tensor`), build expressions with NumPy's names,
differentiate (`sg.grad`), compile (`sg.function`), and look at what you have (`sg.show`).
"""

import difflib
import importlib
from typing import TYPE_CHECKING, Any

from symgraph import debug, dims, errors, fft, linalg, ops
from symgraph._version import __version__
from symgraph.autodiff.batch import vmap
from symgraph.autodiff.custom import checkpoint, custom_jvp, custom_vjp
from symgraph.autodiff.forward import hvp, jvp, linearize
from symgraph.autodiff.implicit import minimize, root
from symgraph.autodiff.jacobian import hessian, jacobian
from symgraph.autodiff.reverse import grad, vjp
from symgraph.config import config
from symgraph.cost import Cost, cost
from symgraph.debug import debugprint, latex, show
from symgraph.dims import Dim, Size, anonymous, dim
from symgraph.errors import SymgraphError, UnknownNameError
from symgraph.function import Function, eval, function, load
from symgraph.graph import declare, dsl, dtype_info
from symgraph.graph.declare import *  # noqa: F403 - 72 declarations: scalar, fmatrix, itensor4, ...
from symgraph.graph.dtype_info import *  # noqa: F403 - finfo, result_type, float32, pi, ...
from symgraph.graph.extend import numpy_op
from symgraph.graph.graph import Graph
from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import Shared, constant, shared, size_of, tensor, with_updates
from symgraph.graph.node import Value
from symgraph.graph.op import Op, op
from symgraph.graph.registry import F
from symgraph.jit import Jit, jit
from symgraph.ops import *  # noqa: F403 - every public operation
from symgraph.ops import sampling as random
from symgraph.ops.random import seed
from symgraph.passes.manager import Pass, graph_pass
from symgraph.passes.patterns import P, attribute, literal, wild
from symgraph.passes.remat import remat
from symgraph.passes.rules import Rule, local_rule, rule

if TYPE_CHECKING:
    from symgraph import array_api, compression, data, io, nn, optim, parallel
    from symgraph.debug import (
        bisect_passes,
        check,
        check_gradient,
        draw,
        from_sympy,
        to_dot,
        to_graphml,
        to_sympy,
    )

# not every program needs them, and imports cost time
_LATE = ("array_api", "compression", "data", "io", "nn", "optim", "parallel")
_LATE_FROM_DEBUG = (
    "bisect_passes", "check", "check_gradient", "draw", "from_sympy", "to_dot", "to_graphml",
    "to_sympy",
)  # fmt: skip

# what has another form here than in NumPy, JAX and Theano
_ELSEWHERE = {
    "value_and_grad": "sg.function([x], [loss, sg.grad(loss, x)]) computes both in one pass",
    "fori_loop": "sg.scan(f, outputs_info=x, n_steps=n), whose last row is the result",
    "hstack": "sg.concat([x, y], axis=1)", "vstack": "sg.concat([x, y], axis=0)",
    "bincount": "sg.one_hot(x, n).sum(axis=0)", "Print": "sg.tap(x, print)",
    "clone": "sg.function(..., givens={old: new}) replaces values",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return importlib.import_module(f"symgraph.{name}")
    if name in _LATE_FROM_DEBUG:
        return getattr(debug, name)
    if name in _ELSEWHERE:
        fix = _ELSEWHERE[name]
    elif name in dsl.NUMPY_NAMES:
        fix = f"NumPy's `{name}` is `{dsl.NUMPY_NAMES[name]}`, as in the array API"
    else:
        close = difflib.get_close_matches(name, __dir__(), 1)
        fix = f"is `{close[0]}` meant?" if close else "see dir(symgraph)"
    raise UnknownNameError(f"symgraph has no member `{name}`.", fix=fix)


def __dir__() -> list[str]:
    return sorted(__all__)


__all__ = [
    "Cost", "Dim", "F", "Function", "Graph", "Jit", "Op", "P", "Pass", "Rule", "Shared", "Size",
    "SymgraphError", "Value", "__version__", "anonymous", "array_api", "attribute", "bisect_passes",
    "check", "check_gradient", "checkpoint", "compression", "config", "constant", "cost",
    "custom_jvp", "custom_vjp", "data", "debug", "debugprint", "dim", "dims", "draw", "errors",
    "eval", "fft", "from_sympy", "function", "grad", "graph_pass", "hessian", "hvp", "interpret",
    "io", "jacobian", "jit", "jvp", "latex", "linalg", "linearize", "literal", "load", "local_rule",
    "minimize", "nn", "numpy_op", "op", "ops", "optim", "parallel", "random", "remat", "root",
    "rule", "seed", "shared", "show", "size_of", "tensor", "to_dot", "to_graphml", "to_sympy",
    "vjp", "vmap", "wild", "with_updates",
]  # fmt: skip
__all__ += declare.__all__
__all__ += dtype_info.__all__
__all__ += ops.__all__
