"""Which operations NumPy computes on every backend: those that no loops express.

They are those whose class says so (`Op.host`), and every operation with a complex operand or
result, as generated code has no complex numbers: what is real around them stays compiled.
"""

from __future__ import annotations

from symgraph.graph.dtypes import is_complex
from symgraph.graph.node import Value
from symgraph.graph.types import TupleType, Type


def on_host(value: Value) -> bool:
    """Tell whether `ref` computes a value, and no loops."""
    return value.op.host or of_complex(value)


def of_complex(value: Value) -> bool:
    """Tell whether a value or one of its operands is complex."""
    return _is_complex(value.type) or any(_is_complex(operand.type) for operand in value.inputs)


def _is_complex(type: Type) -> bool:
    if isinstance(type, TupleType):
        return any(is_complex(part.dtype) for part in type.types)
    return is_complex(type.dtype)
