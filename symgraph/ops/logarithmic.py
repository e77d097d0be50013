"""Functions with a logarithm that are defined where its product with 0 is asked for: entropies,
log-odds and their inverse.
"""

from __future__ import annotations

from typing import Any

from symgraph.graph.elementwise import scalar_op
from symgraph.graph.node import Value
from symgraph.graph.registry import F, composite
from symgraph.graph.samples import arg, sample

_POSITIVE = (0.2, 3.0)


def _xlogy(m: Any, x: Any, y: Any) -> Any:
    nothing = m.and_(m.eq(x, 0), m.not_(m.isnan(y)))
    return m.select(nothing, m.like(0, x), x * m.log(y))


def _xlogy_by_x(m: Any, x: Any, y: Any, out: Any) -> Any:
    nothing = m.and_(m.eq(x, 0), m.le(y, 0))
    return m.select(nothing, m.like(0, x), m.log(m.select(nothing, m.like(1, y), y)))


def _xlog1py(m: Any, x: Any, y: Any) -> Any:
    nothing = m.and_(m.eq(x, 0), m.not_(m.isnan(y)))
    return m.select(nothing, m.like(0, x), x * m.log1p(y))


def _xlog1py_by_x(m: Any, x: Any, y: Any, out: Any) -> Any:
    nothing = m.and_(m.eq(x, 0), m.le(y, -1))
    return m.select(nothing, m.like(0, x), m.log1p(m.select(nothing, m.like(0, y), y)))


def _share(m: Any, x: Any, y: Any) -> Any:
    """Give x / y, 0 where x is 0."""
    return m.select(m.eq(x, 0), m.like(0, x), x / m.select(m.eq(x, 0), m.like(1, y), y))


def _entr(m: Any, x: Any) -> Any:
    inside = m.select(m.eq(x, 0), m.like(0, x), -x * m.log(x))
    return m.select(m.lt(x, 0), m.like(float("-inf"), x), inside)


def _logit(m: Any, x: Any) -> Any:
    # around 1/2 the quotient rounds to something near 1, whose logarithm has lost its digits
    s = 2 * x - 1
    near = m.and_(m.gt(x, 0.3), m.lt(x, 0.65))
    return m.select(near, m.log1p(s) - m.log1p(-s), m.log(x / (1 - x)))


# fmt: off
xlogy = scalar_op("xlogy", _xlogy, domain=((-3.0, 3.0), _POSITIVE),
    d=(_xlogy_by_x, lambda m, x, y, out: _share(m, x, y)),
    latex=r"{0} \ln {1}", doc="Give x * log(y), 0 where x is 0.")
xlog1py = scalar_op("xlog1py", _xlog1py, domain=((-3.0, 3.0), (-0.8, 3.0)),
    d=(_xlog1py_by_x, lambda m, x, y, out: _share(m, x, 1 + y)),
    latex=r"{0} \ln(1 + {1})", doc="Give x * log(1 + y), 0 where x is 0.")
entr = scalar_op("entr", _entr, domain=_POSITIVE, d=lambda m, x, y: -1 - m.log(x),
    latex=r"-{0} \ln {0}", doc="Give -x * log(x), a term of an entropy: 0 at 0, -inf below.")
logit = scalar_op("logit", _logit, domain=(0.1, 0.9), d=lambda m, x, y: 1 / (x * (1 - x)),
    latex=r"\ln \frac{{{0}}}{{1 - {0}}}",
    doc="Give log(x / (1 - x)), the inverse of `sigmoid`; NaN outside [0, 1].")
# fmt: on


@composite(
    samples=[
        sample(lambda x: F.expit(x), arg(("B", 4))),
        sample(lambda x: F.expit(x), arg((17,), "int32"), label="int"),
    ]
)
def expit(x: Any) -> Value:
    """Give 1 / (1 + exp(-x)): SciPy's name of `sigmoid`."""
    return F.sigmoid(x)
