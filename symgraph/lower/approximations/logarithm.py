"""log and log1p: x = 2**e * (1 + f) with |f| <= 1/3, and a polynomial of f."""

from __future__ import annotations

import math
from dataclasses import dataclass

from symgraph.graph.scalar import Scalar, const
from symgraph.lower.approximations.pieces import LAYOUTS, horner, m

THIRD = {"float32": 0x3F2AAAAB, "float64": 0x3FE5555555555555}  # the bits of 2/3
ONE = {"float32": 0x3F800000, "float64": 0x3FF0000000000000}
NORMAL = {"float32": 2.0**-126, "float64": 2.0**-1022}  # the least normal number

# log(1 + f) = f + f*f * polynomial(f), error 2.8e-8
FLOAT32 = (-0.49999937415122986, 0.33333200216293335, -0.2500775158405304, 0.20011082291603088,
           -0.1641695201396942, 0.1399758756160736, -0.15384773910045624,
           0.14015594124794006)  # fmt: skip


@dataclass(frozen=True)
class Split:
    """x = 2**exponent * (1 + rest); `scale` is 2**-exponent."""

    exponent: Scalar
    rest: Scalar
