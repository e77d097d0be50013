"""`to_latex`: an expression as a formula; large parts get names of their own."""

from __future__ import annotations

import math
import re
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


# how tightly results hold and operands must hold, where the template alone does not tell
_LEVELS: dict[str, tuple[int, ...]] = {
    "add": (1, 1, 1), "subtract": (1, 1, 2), "multiply": (2, 2, 2), "negative": (1, 2),
    "pow": (3, 3, 0), "square": (3, 3), "expm1": (1, 0), "matmul": (2, 2, 2),
    **dict.fromkeys(
        ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_and",
         "logical_or", "logical_xor"), (0, 1, 1),
    ),
}  # fmt: skip
# structured operations that mathematics has signs for; elementwise ones bring their own templates
_TEMPLATES = {"matmul": r"{0} \, {1}", "permute_dims": "{0}^T"}
_TRANSPARENT = {
    "attach", "broadcast_to", "cast", "positive", "reshape", "specify_shape", "stop_gradient",
}  # fmt: skip
_REDUCTIONS = {"sum": r"\sum", "prod": r"\prod", "max": r"\max", "min": r"\min"}


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
    template = _TEMPLATES.get(name) or getattr(node.op, "latex", None)
    if template:
        level, *needed = _LEVELS.get(name) or _read_levels(template, len(operands))
        texts = [part.at_least(least) for part, least in zip(operands, needed)]
        return Part(template.format(*texts), level)
    if name in _REDUCTIONS:
        axes = getattr(node.op, "axis", ())
        over = axes if isinstance(axes, tuple) else (axes,)
        under = ",".join(map(str, over)) if len(over) < node.inputs[0].ndim else ""
        return Part(f"{_REDUCTIONS[name]}_{{{under}}} {operands[0].at_least(2)}", 2)
    word = rf"\operatorname{{{name.replace('_', ' ')}}}"
    return Part(rf"{word}\left({', '.join(part.text for part in operands)}\right)", 3)


def _read_levels(template: str, count: int) -> list[int]:
    """Read off a template what operands stand inside brackets and so need none of their own."""
    inside = [
        re.search(rf"[{{(,|]\s?\{{{slot}\}}\s?[}}),|]", template) is not None
        for slot in range(count)
    ]
    return [3 if all(inside) else 2, *(0 if closed else 3 for closed in inside)]


def _literal(array: Any, type: str) -> Part:
    if array.size != 1:
        return Part(rf"\mathrm{{{type}}}", 3)
    number = array.item()
    if isinstance(number, bool):
        return Part(rf"\mathrm{{{number}}}", 3)
    text = f"{number:.6g}" if isinstance(number, float) else str(number)
    if not math.isfinite(number):
        return Part(
            {"inf": r"\infty", "-inf": r"-\infty"}.get(text, r"\mathrm{NaN}"), 3 - 2 * (number < 0)
        )
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
