"""Formulas as text and as LaTeX.

The normal form is made for comparing, not for reading. Before printing, the parts it took apart
are put together again where that is shorter: `B - 2*(B//2)` reads `B % 2`, `(B + 1)//2 - 1` reads
`(B - 1)//2`, `B + C - min(B, C)` reads `max(B, C)`.
"""

from __future__ import annotations

from typing import Literal

from symgraph.dims.core import Dim, Size, Terms, is_symbol, operations, polynomial, terms_of
from symgraph.dims.polynomial import leave_out, plus, times
from symgraph.dims.walk import postorder
from symgraph.frozen import frozen

MAX_TEXT = 2000
"""A part whose text would be longer than this is printed as `...`."""

_MAX_DEPTH = 8  # parts put together inside parts put together

Head = Literal["//", "%", "min", "max"]


@frozen
class _Part:
    """A function of formulas as it is shown: `head` of `args`, times a coefficient.

    `atom` is set where it is shown just as it is.
    """

    coefficient: int
    head: Head
    args: tuple[Size, ...]
    atom: Dim | None = None


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
        printer = _TextPrinter({})
        for atom in postorder(size):
            if atom._text is None:
                atom._text = printer.formula(atom.terms)
            printer.known[atom] = atom._text
        if size._text is None:
            size._text = printer.formula(size.terms)
    return size._text


def latex(size: Size) -> str:
    r"""The formula in LaTeX.

    >>> from symgraph.dims import dim
    >>> print(latex((dim("B") + 1) // 2))
    \left\lfloor \frac{B + 1}{2} \right\rfloor
    """
    if type(size) is not Dim:
        return str(size)
    printer = _LatexPrinter({})
    for atom in postorder(size):
        name = atom.kind == "symbol"
        printer.known[atom] = _latex_name(atom.name) if name else printer.formula(atom.terms)
    return printer.known[size] if size in printer.known else printer.formula(size.terms)


def _latex_name(name: str) -> str:
    escaped = name.replace("_", r"\_")
    return escaped if len(name) == 1 else rf"\mathrm{{{escaped}}}"


# Putting together what the normal form took apart.


def _shown(terms: Terms) -> tuple[Terms, list[_Part]]:
    """The terms to print as they are, and the parts that replace the others."""
    rest = dict(terms)
    parts: list[_Part] = []
    atoms = [mono[0] for mono in terms if len(mono) == 1 and mono[0].kind != "symbol"]
    for atom in sorted(atoms, key=_display_order):
        coefficient = rest.get((atom,), 0)
        if not coefficient:
            continue
        show = _show_floor if atom.kind == "//" else _show_extreme
        rest, part = show(atom, coefficient, leave_out(rest, atom))
        parts.append(part)
    return rest, parts


def _display_order(atom: Dim) -> int:
    """Floors over min and max take them back first; then min and max take their arguments."""
    if atom.kind != "//":
        return 1
    inner = terms_of(atom.args[0])
    return 0 if any(mono and _was_moved_out(mono) for mono in inner) else 2


def _show_floor(atom: Dim, coefficient: int, rest: Terms) -> tuple[Terms, _Part]:
    top, bottom = atom.args
    constant = rest.get((), 0)
    if type(bottom) is int and coefficient % bottom == 0:
        # k*q*(p//q) = k*p - k*(p % q), and p may be moved by a multiple of q
        count = coefficient // bottom
        own = terms_of(top).get((), 0)
        for shift in {0, -(constant // count) - own}:
            shifted = plus(terms_of(top), {(): shift}) if shift else terms_of(top)
            together = plus(plus(rest, shifted, count), {(): -count * shift} if shift else {})
            if shift % bottom == 0 and len(together) < len(rest):
                return together, _Part(-count, "%", (polynomial(shifted), bottom))
    inner = terms_of(top)
    back = {m: v for m, v in rest.items() if v < 0 and m in inner and _was_moved_out(m)}
    if coefficient == 1 and back:
        moved = plus(inner, times(terms_of(bottom), back))
        return plus(rest, back, -1), _Part(1, "//", (polynomial(moved), bottom))
    return rest, _Part(coefficient, "//", atom.args, atom)


def _was_moved_out(mono: tuple[Dim, ...]) -> bool:
    """Whether a negative term beside a floor reads better inside: numbers, min and max do."""
    return not mono or (len(mono) == 1 and mono[0].kind in ("min", "max"))


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
    same = head == atom.kind and args is atom.args
    return rest, _Part(coefficient, head, args, atom if same else None)


def _all_negative(terms: Terms) -> bool:
    return all(value < 0 for value in terms.values())


# Printing.


class _TextPrinter:
    """Writes formulas as Python would; `known` holds the atoms already written."""

    times = "*"

    def __init__(self, known: dict[Dim, str]) -> None:
        self.known = known
        self.depth = 0

    def formula(self, terms: Terms) -> str:
        rest, parts = _shown(terms)
        pieces = [(len(mono), value, self.product(mono)) for mono, value in rest.items()]
        pieces += [(1, part.coefficient, self.part(part)) for part in parts]
        pieces.sort(key=lambda piece: (-piece[0], piece[2]))
        positive = next((i for i, piece in enumerate(pieces) if piece[1] > 0), None)
        if positive:
            pieces.insert(0, pieces.pop(positive))
        if pieces and pieces[0][1] == -1:
            pieces[0] = (0, -1, self.grouped(pieces[0][2]) or "1")
        written = "".join(self.signed(value, body) for _, value, body in pieces)
        written = f"-{written[3:]}" if written.startswith(" - ") else written[3:]
        return (written or "0") if len(written) <= MAX_TEXT else "..."

    def signed(self, value: int, body: str) -> str:
        sign, size = (" - ", -value) if value < 0 else (" + ", value)
        if not body:
            return f"{sign}{size}"
        return f"{sign}{body}" if size == 1 else f"{sign}{size}{self.times}{self.grouped(body)}"

    def product(self, mono: tuple[Dim, ...]) -> str:
        bodies = [self.known.get(atom) or atom.name for atom in mono]
        if len(bodies) > 1:
            bodies = [self.grouped(body) for body in bodies]
        counts = dict.fromkeys(bodies, 0)
        for body in bodies:
            counts[body] += 1
        return self.times.join(
            body if count == 1 else self.raised(body, count) for body, count in counts.items()
        )

    def part(self, part: _Part) -> str:
        """A function of formulas, written anew unless that was done or goes too deep."""
        if part.atom is not None and part.atom in self.known:
            return self.known[part.atom]
        if self.depth > _MAX_DEPTH:
            return "..."
        self.depth += 1
        args = [self.formula(terms_of(arg)) for arg in part.args]
        self.depth -= 1
        if part.head in ("min", "max"):
            args.sort(key=lambda body: (body.lstrip("-").isdigit(), body))  # numbers last
            return self.call(part.head, ", ".join(args))
        return self.fraction(part.head, part.args, args)

    def raised(self, body: str, count: int) -> str:
        return f"{body}**{count}"

    def grouped(self, body: str) -> str:
        """In parentheses, if it would otherwise fall apart as a factor."""
        falls_apart = any(sign in body for sign in ("//", " % ", " + ", " - "))
        return f"({body})" if falls_apart and not _is_call(body) else body

    def call(self, head: str, args: str) -> str:
        return f"{head}({args})"

    def fraction(self, head: Head, args: tuple[Size, ...], written: list[str]) -> str:
        top, bottom = (
            body if is_symbol(arg) or body.isdigit() or _is_call(body) else f"({body})"
            for arg, body in zip(args, written)
        )
        return f"{top}//{bottom}" if head == "//" else f"{top} % {bottom}"


def _is_call(body: str) -> bool:
    """Whether the text is one call `min(...)` or `max(...)`."""
    if not body.startswith(("min(", "max(")):
        return False
    depth = 0
    for position, character in enumerate(body):
        depth += (character == "(") - (character == ")")
        if depth == 0 and character == ")":
            return position == len(body) - 1
    return False


class _LatexPrinter(_TextPrinter):
    """Writes formulas as LaTeX."""

    times = r" \, "

    def raised(self, body: str, count: int) -> str:
        return f"{body}^{{{count}}}"

    def grouped(self, body: str) -> str:
        whole = body.startswith(r"\left") and body.count(r"\left") == 1
        falls_apart = any(sign in body for sign in (" + ", " - ", r"\bmod"))
        return rf"\left( {body} \right)" if falls_apart and not whole else body

    def call(self, head: str, args: str) -> str:
        return rf"\{head}\left( {args} \right)"

    def fraction(self, head: Head, args: tuple[Size, ...], written: list[str]) -> str:
        top, bottom = written
        if head == "//":
            return rf"\left\lfloor \frac{{{top}}}{{{bottom}}} \right\rfloor"
        return rf"{self.grouped(top)} \bmod {self.grouped(bottom)}"


operations.text = text
