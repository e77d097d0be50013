"""asin, acos, atan and atan2: one polynomial each, and arguments brought into its range."""

from __future__ import annotations

from symgraph.graph.scalar import Scalar, const
from symgraph.lower.approximations.pieces import LAYOUTS, flip, horner, m, sign_of

# pi as a float and the rest
PI = {
    "float32": (3.1415927410125732, -8.742278000372485e-08),
    "float64": (3.141592653589793, 1.2246467991473532e-16),
}

# asin(s) = s + s**3 * polynomial(s*s) for |s| <= 1/2, errors 5.7e-9 and 1.7e-17
ASIN = {
    "float32": (0.16666752099990845, 0.07495306432247162, 0.04547036066651344, 0.02417285554111004,
                0.042190734297037125),
    "float64": (
        0.16666666666665403, 0.07500000000338558, 0.04464285682697394, 0.030381959195601913,
        0.02237175658608637, 0.01735972764022854, 0.013885002283810285, 0.012170786976316553,
        0.00652098043537368, 0.01954788375769438, -0.01625575962867329, 0.03193434692182317,
    ),
}  # fmt: skip

# atan(t) = t + t**3 * polynomial(t*t) for |t| <= 1, errors 1.8e-8 and 3.0e-17
ATAN = {
    "float32": (
        -0.33333152532577515, 0.19993767142295837, -0.14211003482341766, 0.10665789246559143,
        -0.07551749050617218, 0.04320645332336426, -0.016364695504307747, 0.0029199044220149517,
    ),
    "float64": (
        -0.3333333333333186, 0.1999999999975514, -0.14285714271338118, 0.11111110678795337,
        -0.0909090123573045, 0.07692212931289559, -0.0666586035449612, 0.05877307669844248,
        -0.05239232419203992, 0.04673947348451007, -0.04092631788372983, 0.03406767283708167,
        -0.025826572311000617, 0.01697776153881701, -0.00918431178171405, 0.0038558155103360823,
        -0.001164002522647997, 0.00022300426084519877, -2.025639088666471e-05,
    ),
}  # fmt: skip


def _from(turn: float, angle: Scalar) -> Scalar:
    """Give turn * pi - angle, where pi counts with more digits than a float has."""
    high, low = PI[angle.dtype]
    return turn * high - (angle - turn * low)


def _from_double(turn: float, s: Scalar, more: Scalar) -> Scalar:
    """Give turn * pi - 2 * (s + more), where `more` is the smaller part.

    Half of the turn is added last, so that no larger number is rounded on the way.
    """
    high, low = PI[s.dtype]
    two = m.like(2.0, s)
    half = m.like(0.5 * turn * high, s)
    small = m.fma(more, two, m.like(-turn * low, s))
    return half - (small - m.fma(s, -two, half))


def _asin_parts(x: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """Give whether |x| > 1/2, and asin of s = |x|, or there of s = sqrt((1 - |x|) / 2), less s."""
    a = m.abs(x)
    large = a > 0.5
    z = m.select(large, m.fma(a, m.like(-0.5, x), m.like(0.5, x)), a * a)
    s = m.select(large, m.sqrt(z), a)
    return large, s, s * z * horner(z, ASIN[x.dtype])


def asin(x: Scalar) -> Scalar:
    """Give the angle between -pi/2 and pi/2 of a sine: pi/2 - 2*asin(sqrt((1 - x) / 2)) near 1."""
    large, s, more = _asin_parts(x)
    return flip(m.select(large, _from_double(0.5, s, more), s + more), sign_of(x))


def acos(x: Scalar) -> Scalar:
    """Give the angle between 0 and pi of a cosine."""
    large, s, more = _asin_parts(x)
    angle = s + more
    near = m.select(x < 0.0, _from_double(1.0, s, more), angle + angle)
    return m.select(large, near, _from(0.5, flip(angle, sign_of(x))))


def _atan_in_unit(t: Scalar) -> Scalar:
    """Give atan(t) for |t| <= 1."""
    u = t * t
    return m.fma(t * u, horner(u, ATAN[t.dtype]), t)


def atan(x: Scalar) -> Scalar:
    """Give the angle between -pi/2 and pi/2 of a tangent: pi/2 - atan(1/x) for large x."""
    a = m.abs(x)
    large = a > 1.0
    angle = _atan_in_unit(m.select(large, 1.0 / a, a))
    return flip(m.select(large, _from(0.5, angle), angle), sign_of(x))


def atan2(y: Scalar, x: Scalar) -> Scalar:
    """Give the angle between -pi and pi of the point (x, y); signs of zeros count, as in IEEE."""
    layout = LAYOUTS[x.dtype]
    a, b = m.abs(y), m.abs(x)
    steep = a > b
    short, long = m.select(steep, b, a), m.select(steep, a, b)
    # 0/0 counts as 0 and inf/inf as 1
    zero, one = m.like(0.0, x), m.like(1.0, x)
    t = m.select(short == long, m.select(long == 0.0, zero, one), short / long)
    angle = _atan_in_unit(t)
    angle = m.select(steep, _from(0.5, angle), angle)
    left = m.bitcast(x, layout.whole) < const(0, layout.whole)
    return flip(m.select(left, _from(1.0, angle), angle), sign_of(y))
