"""sin, cos and tan of every finite argument.

x / (2 pi) modulo 1 is wanted. 1 / (2 pi) is cut into pieces, and of the product of x with each only
the fraction is kept: whole turns do not matter, and fractions of floats are exact. Pieces whose
product is a whole number for all arguments of a size are left out (Payne and Hanek, 1983), so the
pieces are chosen by the size of the argument. From arguments that are not large the nearest quarter
is taken off, with pi/2 as a sum of floats (Cody and Waite, 1980): of two for a float32, in float64,
and of four for a float64, of which the products with the first three are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from symgraph.graph.dtypes import DType
from symgraph.graph.scalar import Scalar, const
from symgraph.lower.approximations.pieces import (
    fast_two_sum,
    flip,
    horner,
    m,
    two_product,
    two_sum,
)  # fmt: skip

DIGITS = 1280
# floor(2**1280 / (2 pi)), by mpmath
TURN = int(
    "28be60db9391054a7f09d5f47d4d377036d8a5664f10e4107f9458eaf7aef1586dc91b8e909374b801924bba827464"
    "873f877ac72c4a69cfba208d7d4baed1213a671c09ad17df904e64758e60d4ce7d272117e2ef7e4a0ec7fe25fff781"
    "6603fbcbc462d6829b47db4d9fb3c9f2c26dd3d18fd9a797fa8b5d49eeb1faf97c5ecf41ce7de294a4ba9afed7ec47"
    "e357421580cc11bf1edaeafc33ef0826bd0d87",
    16,
)
TWO_PI = (6.283185307179586, 2.4492935982947064e-16)
USUAL = {"float32": 2.0**28, "float64": 2.0**20}  # arguments below have a shorter reduction

# sin(r) = r + r**3 * polynomial(r*r) for |r| <= pi/4, errors 4.0e-9 and 4.4e-18
SINE = {
    "float32": (-0.16666655242443085, 0.008332189172506332, -0.0001951828453456983),
    "float64": (-0.1666666666666663, 0.00833333333332184, -0.000198412698294097,
                2.755731357885462e-06, -2.50507439202486e-08, 1.5896139100688992e-10),
}  # fmt: skip
# cos(r) = 1 - r*r/2 + r**4 * polynomial(r*r), errors 1.2e-10 and 5.7e-20
COSINE = {
    "float32": (0.04166664555668831, -0.0013887309469282627, 2.4432305508526042e-05),
    "float64": (0.041666666666666595, -0.001388888888887334, 2.4801587288999284e-05,
                -2.755731421582861e-07, 2.0875705179244486e-09, -1.1358735430734534e-11),
}  # fmt: skip

EXACT = 29  # bits of a piece whose product with a float32 is exact in float64
WIDE = 79  # exponent from which float32 arguments use the second row of pieces
CLASS = 128  # exponents of a class of float64 arguments
LEAST = 52  # exponent of the scaled arguments of a class but the first: they are whole numbers
PIECES = 6


def _bits(start: int, count: int) -> float:
    """Give the bits of 1 / (2 pi) after the first `start`, as a float."""
    cut = (TURN >> (DIGITS - start - count)) & ((1 << count) - 1)
    return float(Fraction(cut, 1 << (start + count)))


def _single_pieces(start: int) -> tuple[float, ...]:
    exact = [_bits(start + EXACT * number, EXACT) for number in range(3)]
    return (*exact, _bits(start + EXACT * 3, 53))


def _double_pieces(start: int) -> tuple[float, ...]:
    """Give the fraction of 2**start / (2 pi) as a sum of floats."""
    rest = Fraction(TURN & ((1 << (DIGITS - start)) - 1), 1 << (DIGITS - start))
    found: list[float] = []
    for _ in range(PIECES):
        found.append(float(rest))
        rest -= Fraction(found[-1])
    return tuple(found)


def _quarter_pieces() -> tuple[float, ...]:
    """Give pi/2 as a sum of floats: three of 33 bits, which 20 more leave exact, and the rest."""
    rest = Fraction(1 << DIGITS, 4 * TURN)
    found: list[float] = []
    for bits in (32, 65, 98):
        found.append(float(Fraction(int(rest * 2**bits), 2**bits)))
        rest -= Fraction(found[-1])
    return (*found, float(rest))


def _fraction(x: Scalar) -> Scalar:
    return x - m.rint(x)


def _quarter(turns: Scalar) -> tuple[Scalar, Scalar]:
    """Give the number of quarters nearest to `turns`, as a float and as bits."""
    magic = m.like(1.5 * 2.0**52, turns)
    shifted = m.fma(turns, m.like(4.0, turns), magic)
    return shifted - magic, m.bitcast(shifted, "uint64")


def _reduce_single(x: Scalar) -> tuple[Scalar, Scalar]:
    """Give x = quarter * pi/2 + angle of a float32: the angle in float64, and the quarter."""
    wide = m.cast(x, "float64")
    large = m.abs(wide) >= 2.0**WIDE
    near, far = _single_pieces(0), _single_pieces(WIDE - 23)
    pieces = [m.select(large, const(b, "float64"), a) for a, b in zip(near, far)]
    first, second, third = (_fraction(wide * piece) for piece in pieces[:3])
    last = wide * pieces[3]
    quarters, bits = _quarter(((first + second) + third) + last)
    # once the quarters are gone these sums are exact wherever they cancel
    rest = m.fma(quarters, m.like(-0.25, wide), first) + second
    return (rest + third + last) * TWO_PI[0], m.cast(bits, "uint32")


def _reduce_usual_single(x: Scalar) -> tuple[Scalar, Scalar]:
    """Give what `_reduce_single` gives, of |x| < 2**28.

    No float32 is nearer than 2**-30 to a multiple of pi/2, and the angle is off by less than
    2**-53 of what is left after the first product, which is not above 2**-25 where that cancels.
    """
    wide = m.cast(x, "float64")
    magic = m.like(1.5 * 2.0**52, wide)
    shifted = m.fma(wide, m.like(4 / TWO_PI[0], wide), magic)
    quarters = shifted - magic
    angle = m.fma(quarters, m.like(-TWO_PI[0] / 4, wide), wide)
    angle = m.fma(quarters, m.like(-TWO_PI[1] / 4, wide), angle)
    return angle, m.cast(m.bitcast(shifted, "uint64"), "uint32")


def _reduce_double(x: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """Give x = quarter * pi/2 + angle of a float64: the angle as two floats, and the quarter.

    Angles of floats are not below 2**-62; the sum of the pieces is right to 2**-118.
    """
    a = m.abs(x)
    pieces = [const(piece, "float64") for piece in _double_pieces(0)]
    scale = m.like(1.0, x)
    for number in range(1, 1024 // CLASS):
        start = CLASS * number
        inside = a >= 2.0**start
        chosen = _double_pieces(start - LEAST)
        pieces = [m.select(inside, new, old) for new, old in zip(chosen, pieces)]
        scale = m.select(inside, 2.0 ** -(start - LEAST), scale)
    scaled = x * scale
    terms: list[Scalar] = []  # largest first
    for number, piece in enumerate(pieces[:-1]):
        high, low = two_product(scaled, piece)
        terms.append(_fraction(high) if number < 4 else high)
        terms.append(_fraction(low) if number < 3 else low)
    terms[-1] = terms[-1] + scaled * pieces[-1]
    turns = terms[0]
    for term in terms[1:]:
        turns = turns + term
    quarters, bits = _quarter(turns)
    high = m.fma(quarters, m.like(-0.25, x), terms[0])
    low = m.like(0.0, x)
    for number, term in enumerate(terms[1:-1]):
        high, error = two_sum(high, term)
        low = low + error
        if number % 2:
            high, low = fast_two_sum(high, low)
    high, low = fast_two_sum(high, low + terms[-1])
    angle, error = two_product(high, m.like(TWO_PI[0], x))
    rest = m.fma(high, m.like(TWO_PI[1], x), m.fma(low, m.like(TWO_PI[0], x), error))
    return angle, rest, m.cast(bits, "uint32")


def _reduce_usual_double(x: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """Give what `_reduce_double` gives, of |x| < 2**20.

    There are less than 2**20 quarters. What the first piece leaves is exact, and so are the sums
    with their errors, so that only the last piece's product is off, by less than 2**-131.
    """
    magic = m.like(1.5 * 2.0**52, x)
    shifted = m.fma(x, m.like(4 / TWO_PI[0], x), magic)
    quarters = shifted - magic
    first, second, third, last = (m.like(-piece, x) for piece in _quarter_pieces())
    high, low = two_sum(m.fma(quarters, first, x), quarters * second)
    high, lower = two_sum(high, quarters * third)
    high, low = fast_two_sum(high, m.fma(quarters, last, low + lower))
    return high, low, m.cast(m.bitcast(shifted, "uint64"), "uint32")


def _single(angle: Scalar, dtype: DType) -> tuple[Scalar, Scalar]:
    """Give sine and cosine of |angle| <= pi/4, right to 4e-9, rounded as the dtype is."""
    angle = m.cast(angle, dtype)
    u = angle * angle
    sine = m.fma(angle * u, horner(u, SINE["float32"]), angle)
    return sine, horner(u, (1.0, -0.5, *COSINE["float32"]))


def _double(angle: Scalar, rest: Scalar) -> tuple[Scalar, Scalar]:
    """Give sine and cosine of angle + rest for |angle| <= pi/4, as Sun's fdlibm adds them."""
    u = angle * angle
    one = m.like(1.0, angle)
    near = m.fma(u, m.like(-0.5, u), one)
    sine = angle + m.fma(angle * u, horner(u, SINE["float64"]), rest * near)
    lost = m.fma(u, m.like(-0.5, u), one - near)
    cosine = near + m.fma(u * u, horner(u, COSINE["float64"]), m.fma(-angle, rest, lost))
    return sine, cosine


Finish = Callable[[Scalar, Scalar, Scalar], Scalar]


def _from_parts(x: Scalar, dtype: DType, finish: Finish) -> Scalar:
    """Finish from sine and cosine of the angle, computed in a dtype, and the quarter."""
    large = m.abs(x) >= USUAL[x.dtype]
    if x.dtype == "float64":

        def double(reduce: Callable[[Scalar], tuple[Scalar, Scalar, Scalar]]) -> Scalar:
            angle, rest, quarter = reduce(x)
            return finish(*_double(angle, rest), quarter)

        return m.rare(large, double(_reduce_double), double(_reduce_usual_double))

    def single(reduce: Callable[[Scalar], tuple[Scalar, Scalar]]) -> Scalar:
        angle, quarter = reduce(x)
        return finish(*_single(angle, dtype), quarter)

    return m.rare(large, single(_reduce_single), single(_reduce_usual_single))


def _signed(value: Scalar, bit: Scalar) -> Scalar:
    """Change the sign of a value where a bit, the last one of an uint32, is set."""
    if value.dtype == "float32":
        return flip(value, bit << const(31, "uint32"))
    return flip(value, m.cast(bit, "uint64") << const(63, "uint64"))


def _at(x: Scalar, found: Scalar) -> Scalar:
    """Give what was found, but x itself near zero: its sign, and its last bits in float64."""
    return m.select(m.abs(x) < (2.0**-13 if x.dtype == "float32" else 2.0**-27), x, found)


def sin(x: Scalar) -> Scalar:
    """Give the sine; NaN of infinities."""

    def finish(sine: Scalar, cosine: Scalar, quarter: Scalar) -> Scalar:
        swap = m.bitand(quarter, const(1, "uint32")) != 0
        sign = m.bitand(quarter >> const(1, "uint32"), const(1, "uint32"))
        return _signed(m.select(swap, cosine, sine), sign)

    return _at(x, _from_parts(x, x.dtype, finish))


def cos(x: Scalar) -> Scalar:
    """Give the cosine; NaN of infinities."""

    def finish(sine: Scalar, cosine: Scalar, quarter: Scalar) -> Scalar:
        swap = m.bitand(quarter, const(1, "uint32")) != 0
        sign = m.bitand((quarter + 1) >> const(1, "uint32"), const(1, "uint32"))
        return _signed(m.select(swap, sine, cosine), sign)

    return _from_parts(x, x.dtype, finish)


def tan(x: Scalar) -> Scalar:
    """Give the tangent; NaN of infinities."""

    def finish(sine: Scalar, cosine: Scalar, quarter: Scalar) -> Scalar:
        odd = m.bitand(quarter, const(1, "uint32"))
        swap = odd != 0
        quotient = m.select(swap, cosine, sine) / m.select(swap, sine, cosine)
        return _signed(m.cast(quotient, x.dtype), odd)

    # a quotient of two rounded numbers would be off by more
    return _at(x, _from_parts(x, "float64", finish))
