"""Formulas as text and as LaTeX.

The normal form is made for comparing, not for reading. Before printing, the parts it took apart
are put together again where that is shorter: `B - 2*(B//2)` reads `B % 2`, `(B + 1)//2 - 1` reads
`(B - 1)//2`, `B + C - min(B, C)` reads `max(B, C)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from symgraph.dims.core import Dim, Size, Terms, operations, polynomial, terms_of
from symgraph.dims.polynomial import leave_out, plus, scaled
from symgraph.dims.walk import postorder

MAX_TEXT = 2000
"""A part whose text would be longer than this is printed as `...`."""

Head = Literal["//", "%", "min", "max"]


@dataclass(frozen=True)
class _Part:
    """A function of formulas as it is shown: `head` of `args`, times a coefficient."""

    coefficient: int
    head: Head
    args: tuple[Size, ...]


def text(size: Size) -> str:
    """The formula as Python would read it.

    >>> from symgraph.dims import dims
    >>> B, H = dims("B H")
    >>> text((B - 1) // 2 + 2 * B * H)
    '2*B*H + (B - 1)//2'
    """
    if type(size) is not Dim:
        return str(size)
    if size._text is None:
        for atom in postorder(size):
            if atom._text is None:
                atom._text = _shortened(_plain(atom))
        if size._text is None:
            size._text = _plain(size)
    return size._text


def _shortened(written: str) -> str:
    return written if len(written) <= MAX_TEXT else "..."


def latex(size: Size) -> str:
    r"""The formula in LaTeX.

    >>> from symgraph.dims import dim
    >>> print(latex((dim("B") + 1) // 2))
    \left\lfloor \frac{B + 1}{2} \right\rfloor
    """
    if type(size) is not Dim:
        return str(size)
    known: dict[Dim, str] = {}
    for atom in postorder(size):
        if atom.kind == "symbol":
            known[atom] = _latex_name(atom.name)
        else:
            known[atom] = _shortened(_LatexPrinter(known).formula(terms_of(atom)))
    return known[size] if size in known else _LatexPrinter(known).formula(size.terms)


def _latex_name(name: str) -> str:
    escaped = name.replace("_", r"\_")
    return escaped if len(name) == 1 else rf"\mathrm{{{escaped}}}"


def _plain(size: Dim) -> str:
    return _TextPrinter().formula(size.terms)


# Putting together what the normal form took apart.


def _shown(terms: Terms) -> tuple[Terms, list[_Part]]:
    """The terms to print as they are, and the parts that replace the others."""
    rest = dict(terms)
    parts: list[_Part] = []
    atoms = [mono[0] for mono in terms if len(mono) == 1 and mono[0].kind != "symbol"]
    for atom in atoms:
        coefficient = rest.get((atom,), 0)
        if not coefficient:
            continue
        less = leave_out(rest, atom)
        if atom.kind == "//":
            rest, part = _show_floor(atom, coefficient, less)
        else:
            rest, part = _show_extreme(atom, coefficient, less)
        parts.append(part)
    return rest, parts


def _show_floor(atom: Dim, coefficient: int, rest: Terms) -> tuple[Terms, _Part]:
    top, bottom = atom.args
    if type(bottom) is int and coefficient % bottom == 0:
        # k*q*(p//q) = k*p - k*(p % q)
        count = coefficient // bottom
        for shift in dict.fromkeys((0, -(rest.get((), 0) // count) - terms_of(top).get((), 0))):
            shifted = plus(terms_of(top), {(): shift} if shift else {})
            if shift % bottom == 0 or not shift:
                together = plus(rest, shifted, count)
                together = plus(together, {(): -count * shift} if shift else {})
                if len(together) < len(rest):
                    return together, _Part(-count, "%", (polynomial(shifted), bottom))
    constant = rest.get((), 0)
    if coefficient == 1 and constant < 0:
        moved = plus(terms_of(top), scaled(terms_of(bottom), constant))
        rest = {mono: value for mono, value in rest.items() if mono}
        return rest, _Part(1, "//", (polynomial(moved), bottom))
    return rest, _Part(coefficient, "//", atom.args)


def _show_extreme(atom: Dim, coefficient: int, rest: Terms) -> tuple[Terms, _Part]:
    head: Head = "min" if atom.kind == "min" else "max"
    args = atom.args
    if head == "min" and len(args) == 2:
        # c*min(a, b) = c*(a + b) - c*max(a, b)
        both = plus(terms_of(args[0]), terms_of(args[1]))
        together = plus(rest, both, coefficient)
        absorbed = coefficient == -1 and _all_negative(together)
        if len(together) < len(rest) or absorbed:
            rest, head, coefficient = together, "max", -coefficient
    if coefficient == 1 and rest and _all_negative(rest):
        args = tuple(polynomial(plus(terms_of(arg), rest)) for arg in args)
        rest = {}
    return rest, _Part(coefficient, head, args)


def _all_negative(terms: Terms) -> bool:
    return all(value < 0 for value in terms.values())


# Printing.


class _TextPrinter:
    """Writes terms and parts as Python would."""

    times = "*"

    def formula(self, terms: Terms) -> str:
        rest, parts = _shown(terms)
        pieces = [(len(mono), value, self._product(mono)) for mono, value in rest.items()]
        pieces += [(1, part.coefficient, self.part(part)) for part in parts]
        pieces.sort(key=lambda piece: (-piece[0], piece[2]))
        positive = next((i for i, piece in enumerate(pieces) if piece[1] > 0), 0)
        pieces.insert(0, pieces.pop(positive))
        written = ""
        for _, value, body in pieces:
            size = abs(value)
            piece = body if body and size == 1 else str(size)
            if body and size != 1:
                piece = f"{size}{self.times}{self.grouped(body)}"
            sign = "-" if value < 0 else "+"
            written += f" {sign} {piece}" if written else (f"-{piece}" if value < 0 else piece)
        return written or "0"

    def _product(self, mono: tuple[Dim, ...]) -> str:
        counts: dict[str, int] = {}
        for atom in mono:
            body = self.atom(atom)
            counts[self.grouped(body) if len(mono) > 1 else body] = (
                counts.get(self.grouped(body) if len(mono) > 1 else body, 0) + 1
            )
        return self.times.join(
            body if count == 1 else self.raised(body, count) for body, count in counts.items()
        )

    def atom(self, atom: Dim) -> str:
        return atom._text or atom.name or "..."

    def raised(self, body: str, count: int) -> str:
        return f"{body}**{count}"

    def grouped(self, body: str) -> str:
        """In parentheses, if it would otherwise fall apart as a factor."""
        return f"({body})" if "//" in body or "%" in body or " + " in body or " - " in body \
            else body  # fmt: skip

    def argument(self, size: Size) -> str:
        return _TextPrinter().formula(terms_of(size))

    def part(self, part: _Part) -> str:
        if part.head in ("min", "max"):
            return f"{part.head}({', '.join(sorted(map(self.argument, part.args)))})"
        top, bottom = (self._operand(arg) for arg in part.args)
        return f"{top}//{bottom}" if part.head == "//" else f"{top} % {bottom}"

    def _operand(self, size: Size) -> str:
        body = self.argument(size)
        simple = body.isidentifier() or body.isdigit() or _is_call(body) or _is_label(size)
        return body if simple else f"({body})"


def _is_call(body: str) -> bool:
    """Whether the text is one call `min(...)` or `max(...)`."""
    if not body.startswith(("min(", "max(")) or not body.endswith(")"):
        return False
    depth = 0
    for position, character in enumerate(body):
        depth += (character == "(") - (character == ")")
        if depth == 0 and character == ")" and position < len(body) - 1:
            return False
    return True


def _is_label(size: Size) -> bool:
    return type(size) is Dim and size.kind == "symbol"


class _LatexPrinter(_TextPrinter):
    """Writes terms and parts as LaTeX; `known` holds the atoms already written."""

    times = r" \, "

    def __init__(self, known: dict[Dim, str]) -> None:
        self.known = known

    def atom(self, atom: Dim) -> str:
        return self.known[atom]

    def raised(self, body: str, count: int) -> str:
        return f"{body}^{{{count}}}"

    def grouped(self, body: str) -> str:
        whole = body.startswith(r"\left") and body.count(r"\left") == 1
        plain = " + " not in body and " - " not in body and r"\bmod" not in body
        return body if whole or plain else rf"\left( {body} \right)"

    def argument(self, size: Size) -> str:
        return _LatexPrinter(self.known).formula(terms_of(size))

    def part(self, part: _Part) -> str:
        if part.head in ("min", "max"):
            return rf"\{part.head}\left( {', '.join(sorted(map(self.argument, part.args)))} \right)"
        top, bottom = (self.argument(arg) for arg in part.args)
        if part.head == "//":
            return rf"\left\lfloor \frac{{{top}}}{{{bottom}}} \right\rfloor"
        return rf"{self.grouped(top)} \bmod {self.grouped(bottom)}"


operations.text = text
