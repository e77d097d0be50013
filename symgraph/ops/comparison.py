"""Comparisons and tests, which give bools, and the operations on bools and on bits.

None of them has a gradient. `bitwise_*` (the operators &, |, ^, ~) on bools are the logical ones.
"""

from __future__ import annotations

from symgraph.graph.elementwise import scalar_op

# fmt: off
equal = scalar_op("equal", lambda m, x, y: m.eq(x, y), d=(None, None), result="bool",
    takes="any", latex="{0} = {1}", commutes=True, complex=True,
    doc="Whether x == y; a NaN equals nothing.")
not_equal = scalar_op("not_equal", lambda m, x, y: m.ne(x, y), d=(None, None), result="bool",
    takes="any", latex=r"{0} \ne {1}", commutes=True,
    complex=True, doc="Whether x != y; a NaN differs from everything.")
less = scalar_op("less", lambda m, x, y: m.lt(x, y), d=(None, None), result="bool",
    takes="any", latex="{0} < {1}", doc="Whether x < y.")
less_equal = scalar_op("less_equal", lambda m, x, y: m.le(x, y), d=(None, None), result="bool",
    takes="any", latex=r"{0} \le {1}", doc="Whether x <= y.")
greater = scalar_op("greater", lambda m, x, y: m.gt(x, y), d=(None, None), result="bool",
    takes="any", latex="{0} > {1}", doc="Whether x > y.")
greater_equal = scalar_op("greater_equal", lambda m, x, y: m.ge(x, y), result="bool",
    takes="any", latex=r"{0} \ge {1}", doc="Whether x >= y.")

isnan = scalar_op("isnan", lambda m, x: m.isnan(x), result="bool",
    latex=r"\operatorname{{isnan}} {0}", complex=True, doc="Whether x is NaN.")
isinf = scalar_op("isinf", lambda m, x: m.isinf(x), result="bool",
    latex=r"\operatorname{{isinf}} {0}", complex=True, doc="Whether x is infinite, of either sign.")
isfinite = scalar_op("isfinite", lambda m, x: m.not_(m.or_(m.isnan(x), m.isinf(x))), result="bool",
    latex=r"\operatorname{{isfinite}} {0}", complex=True,
    doc="Whether x is neither NaN nor infinite.")

logical_and = scalar_op("logical_and", lambda m, x, y: m.and_(x, y), takes="bool",
    latex=r"{0} \land {1}", commutes=True,
    doc="Whether both hold; numbers hold where they are not 0.")
logical_or = scalar_op("logical_or", lambda m, x, y: m.or_(x, y), takes="bool",
    latex=r"{0} \lor {1}", commutes=True,
    doc="Whether one holds; numbers hold where they are not 0.")
logical_xor = scalar_op("logical_xor", lambda m, x, y: m.ne(x, y), takes="bool",
    latex=r"{0} \oplus {1}", commutes=True,
    doc="Whether exactly one holds; numbers hold where they are not 0.")
logical_not = scalar_op("logical_not", lambda m, x: m.not_(x), takes="bool",
    latex=r"\lnot {0}", doc="Whether x does not hold; numbers hold where they are not 0.")

bitwise_and = scalar_op("bitwise_and", lambda m, x, y: x & y, takes="bits",
    latex=r"{0} \mathbin{{\&}} {1}", commutes=True, doc="Combine bits by and.")
bitwise_or = scalar_op("bitwise_or", lambda m, x, y: x | y, takes="bits",
    latex=r"{0} \mathbin{{|}} {1}", commutes=True, doc="Combine bits by or.")
bitwise_xor = scalar_op("bitwise_xor", lambda m, x, y: x ^ y, takes="bits",
    latex=r"{0} \oplus {1}", commutes=True, doc="Combine bits by exclusive or.")
bitwise_invert = scalar_op("bitwise_invert", lambda m, x: ~x, takes="bits",
    latex=r"\mathord{{\sim}} {0}", doc="Turn every bit.")
bitwise_left_shift = scalar_op("bitwise_left_shift", lambda m, x, y: m.shl(x, y), takes="integer",
    domain=((0, 9), (0, 7)), latex=r"{0} \ll {1}",
    doc="Shift bits left by y; a shift by all bits or more gives 0.")
bitwise_right_shift = scalar_op("bitwise_right_shift", lambda m, x, y: m.shr(x, y),
    takes="integer", domain=((-99, 99), (0, 7)), latex=r"{0} \gg {1}",
    doc="Shift bits right by y, keeping the sign; by all bits or more gives 0, or -1 below 0.")
# fmt: on
