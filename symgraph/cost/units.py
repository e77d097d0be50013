"""Numbers and formulas as people read them: `12.3 MB*B + 975 MB`."""

from __future__ import annotations

from collections.abc import Sequence

from symgraph.dims import Dim, Size
from symgraph.dims.core import terms_of

PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
MOST_TERMS = 4  # of a sum, or of a maximum, that are shown


def number_text(value: int, unit: str = "") -> str:
    """Give a number in three or four digits with a prefix; small ones as they are.

    >>> number_text(1234567), number_text(80_000_000_000, "B"), number_text(12, "B")
    ('1.23 M', '80 GB', '12 bytes')
    """
    if unit == "B" and abs(value) < 1000:
        return f"{value} byte{'s' * (abs(value) != 1)}"  # `12 B*B` would be hard to read
    amount, prefix = float(abs(value)), 0
    while amount >= 999.5 and prefix < len(PREFIXES) - 1:
        amount /= 1000
        prefix += 1
    sign = "-" if value < 0 else ""
    digits = f"{amount:.0f}" if not prefix else f"{amount:.3g}"
    return f"{sign}{digits} {PREFIXES[prefix]}{unit}".rstrip()


def seconds_text(seconds: float) -> str:
    """Give a time in three digits.

    >>> seconds_text(2.5), seconds_text(0.0123), seconds_text(4.56e-5), seconds_text(3e-8)
    ('2.5 s', '12.3 ms', '45.6 us', '30 ns')
    """
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= 0.9995 * factor:
            return f"{seconds / factor:.3g} {unit}" if seconds < 999.5 else f"{seconds:.0f} s"
    return f"{seconds / 1e-9:.3g} ns"


def size_text(size: Size, unit: str = "") -> str:
    """Give a formula with rounded coefficients, the highest products first.

    >>> from symgraph.dims import dim
    >>> size_text(1234567 * dim("B") + 4000, "B")
    '1.23 MB*B + 4 kB'
    """
    terms = sorted(terms_of(size).items(), key=lambda term: (-len(term[0]), -abs(term[1])))
    if not terms:
        return number_text(0, unit)
    text = ""
    for mono, value in terms[:MOST_TERMS]:
        factors = "".join(f"*{_factor(atom)}" for atom in mono)
        shown = f"{number_text(abs(value), unit)}{factors}"
        if text:
            text += f" {'-' if value < 0 else '+'} {shown}"
        else:
            text = f"-{shown}" if value < 0 else shown
    left = len(terms) - MOST_TERMS
    return text if left <= 0 else f"{text} + {left} more"


def _factor(atom: Dim) -> str:
    return f"({atom})" if atom.kind == "//" else str(atom)


def largest_text(sizes: Sequence[Size], unit: str = "") -> str:
    """Give a maximum of formulas.

    >>> from symgraph.dims import dim
    >>> largest_text([2000 * dim("B"), 50], "B")
    'max(2 kB*B, 50 bytes)'
    """
    shown = [size_text(size, unit) for size in sizes[:MOST_TERMS]]
    if len(sizes) > MOST_TERMS:
        shown.append(f"{len(sizes) - MOST_TERMS} more")
    return shown[0] if len(shown) == 1 else f"max({', '.join(shown)})"


def exact_text(sizes: Sequence[Size]) -> str:
    """Give a maximum of formulas to the last byte."""
    texts = [str(size) for size in sizes[:MOST_TERMS]]
    if len(sizes) > MOST_TERMS:
        texts.append(f"{len(sizes) - MOST_TERMS} more")
    return texts[0] if len(texts) == 1 else f"max({', '.join(texts)})"
