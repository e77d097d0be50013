"""`to_latex`: an expression as a formula; large parts get names of their own."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from symgraph.graph.leaves import Constant, SizeOf
from symgraph.graph.node import Value
from symgraph.graph.registry import function_of
from symgraph.graph.walk import topological

LIMIT = 240  # characters; a longer part becomes a named line of its own


class Part:
    """A formula and how tightly it holds together: 3 atom, 2 product, 1 sum, 0 relation."""

    def __init__(self, text: str, level: int) -> None:
        self.text, self.level = text, level

    def at_least(self, level: int) -> str:
        """Give the formula, in parentheses where it holds less tightly than needed."""
        return self.text if self.level >= level else rf"\left({self.text}\right)"


Form = Callable[..., str]

# operation -> (how to write it from its operands, how tightly the result holds)
_FORMS: dict[str, tuple[Form, int]] = {
    "add": (lambda a, b: f"{a.text} + {b.text}", 1),
    "subtract": (lambda a, b: f"{a.text} - {b.at_least(2)}", 1),
    "multiply": (lambda a, b: rf"{a.at_least(2)} \cdot {b.at_least(2)}", 2),
    "matmul": (lambda a, b: rf"{a.at_least(2)} \, {b.at_least(2)}", 2),
    "divide": (lambda a, b: rf"\frac{{{a.text}}}{{{b.text}}}", 3),
    "reciprocal": (lambda a: rf"\frac{{1}}{{{a.text}}}", 3),
    "negative": (lambda a: f"-{a.at_least(2)}", 1),
    "pow": (lambda a, b: f"{a.at_least(3)}^{{{b.text}}}", 3),
    "square": (lambda a: f"{a.at_least(3)}^2", 3),
    "permute_dims": (lambda a: f"{a.at_least(3)}^T", 3),
    "exp": (lambda a: f"e^{{{a.text}}}", 3),
    "sqrt": (lambda a: rf"\sqrt{{{a.text}}}", 3),
    "abs": (lambda a: rf"\left|{a.text}\right|", 3),
    "floor": (lambda a: rf"\lfloor {a.text} \rfloor", 3),
    "ceil": (lambda a: rf"\lceil {a.text} \rceil", 3),
    "sigmoid": (lambda a: rf"\sigma\left({a.text}\right)", 3),
    "equal": (lambda a, b: f"{a.text} = {b.text}", 0),
    "not_equal": (lambda a, b: rf"{a.text} \ne {b.text}", 0),
    "less": (lambda a, b: f"{a.text} < {b.text}", 0),
    "less_equal": (lambda a, b: rf"{a.text} \le {b.text}", 0),
    "greater": (lambda a, b: f"{a.text} > {b.text}", 0),
    "greater_equal": (lambda a, b: rf"{a.text} \ge {b.text}", 0),
}
_TRANSPARENT = {
    "attach", "broadcast_to", "cast", "positive", "reshape", "specify_shape", "stop_gradient",
}  # fmt: skip
_REDUCTIONS = {"sum": r"\sum", "prod": r"\prod", "max": r"\max", "min": r"\min"}
_PLAIN = {"log", "sin", "cos", "tan", "sinh", "cosh", "tanh"}


@function_of
def to_latex(value: Value) -> str:
    r"""Give a value as a LaTeX formula.

    >>> import symgraph as sg
    >>> x, y = sg.scalar("x"), sg.scalar("y")
    >>> to_latex(sg.exp(x) * (x + y))
    '$\\displaystyle e^{x} \\cdot \\left(x + y\\right)$'
    """
    parts: dict[Value, Part] = {}
    named: list[str] = []
    for node in topological([value]):
        part = _part(node, [parts[operand] for operand in node.inputs])
        if len(part.text) > LIMIT and node is not value:
            symbol = f"t_{{{len(named) + 1}}}"
            named.append(f"{symbol} &= {part.text}")
            part = Part(symbol, 3)
        parts[node] = part
    final = parts[value].text
    if not named:
        return rf"$\displaystyle {final}$"
    rows = r" \\ ".join([*named, f"& {final}"])
    return rf"$\displaystyle \begin{{aligned}} {rows} \end{{aligned}}$"


def _part(node: Value, operands: list[Part]) -> Part:
    if isinstance(node.op, Constant):
        return _literal(node.op.array, str(node.type))
    if isinstance(node.op, SizeOf):
        return Part(str(node.op.dim), 1)
    if not operands:
        return Part(_symbol(node.label), 3)
    name = node.op.name
    if name in _TRANSPARENT:
        return operands[0]
    if name in _FORMS:
        form, level = _FORMS[name]
        return Part(form(*operands), level)
    if name in _REDUCTIONS:
        axes = getattr(node.op, "axes", ())
        under = ",".join(map(str, axes)) if len(axes) < node.inputs[0].ndim else ""
        return Part(f"{_REDUCTIONS[name]}_{{{under}}} {operands[0].at_least(2)}", 2)
    word = rf"\{name}" if name in _PLAIN else rf"\operatorname{{{name.replace('_', ' ')}}}"
    return Part(rf"{word}\left({', '.join(part.text for part in operands)}\right)", 3)


def _literal(array: Any, type: str) -> Part:
    if array.size != 1:
        return Part(rf"\mathrm{{{type}}}", 3)
    number = array.item()
    text = f"{number:.6g}" if isinstance(number, float) else str(number)
    if "e" in text:
        mantissa, exponent = text.split("e")
        return Part(rf"{mantissa} \cdot 10^{{{int(exponent)}}}", 2)
    return Part(text, 1 if text.startswith("-") else 3)


def _symbol(label: str) -> str:
    letters = re.fullmatch(r"([A-Za-z])_?(\d+)", label)
    if letters:
        return f"{letters.group(1)}_{{{letters.group(2)}}}"
    if re.fullmatch(r"[A-Za-z]", label):
        return label
    return r"\mathrm{" + label.replace("_", r"\_") + "}"
