"""How far results may be from their oracle: one table by class of operation and dtype.

An error has two parts: relative to the element itself, and relative to the largest element of the
result (a sum that cancels is only as exact as its largest terms). Both are in units of the dtype's
epsilon. Oracles are computed in float64; half precisions compute in float32 and round at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from symgraph.graph.registry import COMPOSITES, OPS

EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}
SMALLEST = {"float16": 2.0**-14, "bfloat16": 2.0**-126, "float32": 2.0**-126, "float64": 2.0**-1022}
HALVES = ("float16", "bfloat16")


@dataclass(frozen=True)
class Row:
    """Allowed errors in epsilons: of the element, of the largest element; the same for halves."""

    element: float
    largest: float
    half_element: float
    half_largest: float


# fmt: off
TABLE: Mapping[str, Row] = {
    #                   float32, float64       float16, bfloat16
    #                   element  largest       element  largest
    "exact":       Row(       0,       0,            0,       0),  # moved, compared, counted
    "elementwise": Row(      10,       0,            1,       0),  # one rounding at the end
    "tail":        Row(     200,       0,            2,       0),  # errors grow as x * x far out
    "special":     Row(     100,       8,            2,       1),  # zeros between, far tails
    "reduce":      Row(       4,      16,            1,       0),
    "contract":    Row(       4,      32,            1,     0.1),
    "norm":        Row(      16,      32,            2,       1),
    "matrices":    Row(      32,     256,            1,     0.5),  # as well as they are conditioned
    "composite":   Row(      16,      64,            4,       4),  # every part rounds
}

# the class of a whole file of ops/
FAMILIES: Mapping[str, str] = {
    "activation": "elementwise", "activation_more": "elementwise", "arithmetic": "elementwise",
    "comparison": "elementwise", "transcendental": "elementwise", "logarithmic": "elementwise",
    "special_gamma": "special", "special_normal": "special", "special_bessel": "special",
    "special_incomplete": "special",
    "complex_numbers": "exact",
    "reduce": "reduce", "argreduce": "exact", "prod_others": "reduce", "statistics": "composite",
    "shape": "exact", "create": "exact", "join": "exact", "pad": "exact", "slicing": "exact",
    "cumulative": "reduce", "sorting": "exact", "manipulation": "exact", "diagonals": "exact",
    "scatter": "reduce", "floating": "elementwise", "siren": "composite",
    "siren_gradient": "composite",
    "topk": "exact", "gather": "reduce", "along_axis": "reduce", "index": "exact",
    "selected": "exact",
    "control": "exact", "random": "exact", "random_laws": "norm", "portable": "elementwise",
    "linalg": "contract", "conv": "contract",
    "specify": "exact", "barrier": "exact", "gradients": "exact",
    "loop": "composite", "branch": "composite",
    "resize": "reduce", "adaptive_max": "reduce",
    "tap": "exact",
    "pool": "reduce", "avg_pool": "reduce", "norm": "norm",
    "factor": "matrices", "fourier": "matrices", "eigen": "matrices", "eigen_general": "matrices",
    "solve": "matrices",
    "diagonal": "exact",     "inverse": "matrices", "matrix_functions": "matrices",
    "lrn": "norm", "softmax": "norm", "losses": "norm",
}

# single operations that differ from their file
OVERRIDES: Mapping[str, str] = {
    # IEEE rounds these correctly, and once more to a narrower dtype changes nothing
    **dict.fromkeys(("add", "subtract", "multiply", "divide", "square", "sqrt"), "exact"),
    **dict.fromkeys(("reciprocal", "negative", "positive", "abs", "sign", "relu"), "exact"),
    "relu6": "exact",
    **dict.fromkeys(("maximum", "minimum", "clip", "where", "cast", "stop_gradient"), "exact"),
    "reverse_gradient": "exact",
    **dict.fromkeys(("signbit", "copysign", "fmod", "heaviside"), "exact"),
    **dict.fromkeys(("floor", "ceil", "trunc", "round"), "exact"),
    **dict.fromkeys(("take", "take_along_axis", "max", "min", "any", "all"), "exact"),
    **dict.fromkeys(("adaptive_max", "adaptive_argmax"), "exact"),
    "random_integers": "exact",
    "modulus": "elementwise",
    "random_normal": "norm",  # against SciPy's inverse; test_random.py compares bits
    "gelu": "tail",
    "lerp": "reduce",  # the difference may cancel
    "logaddexp": "reduce",  # the maximum and the logarithm may cancel
}
# fmt: on

# relative error of an analytic derivative against central differences in float64, by its order
DIFFERENCE = {1: 1e-6, 2: 1e-5}
STEP = 1e-5


def class_of(name: str) -> str:
    """Give the class of an operation (of its own, or of its file) or of a composite."""
    if name in OVERRIDES:
        return OVERRIDES[name]
    if name in OPS:
        family = OPS[name].__module__.rpartition(".")[2]
        if family not in FAMILIES:
            raise KeyError(
                f"{name}: give the class of {family}.py in tests/tolerances.py, FAMILIES"
            )
        return FAMILIES[family]
    if name in COMPOSITES:
        return "composite"
    raise KeyError(f"no operation or composite is called {name}")


def allowed(row: Row, dtype: str) -> tuple[float, float]:
    """Give the relative errors that an element of a dtype may have: (own, of the largest)."""
    if dtype in HALVES:
        own, base = EPSILON[dtype], EPSILON["float32"]
        return (
            row.half_element * own + row.element * base,
            row.half_largest * own + row.largest * base,
        )
    return row.element * EPSILON[dtype], row.largest * EPSILON[dtype]


def assert_close(actual: Any, expected: Any, kind: str, what: str = "result") -> None:
    """Fail unless an array is as near to its oracle as the table says.

    Integers and bools are exact; NaN, infinities and overflow stand at the same places; expected
    floats are rounded to the dtype of `actual` first.
    """
    actual = np.asarray(actual)
    expected = np.asarray(expected)
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, not {expected.shape}"
    if not is_floating(actual.dtype):
        same = actual == expected
        assert np.all(same), _worst(what, actual, expected, ~np.asarray(same))
        return
    dtype = str(actual.dtype)
    if actual.dtype.kind == "c":
        _assert_complex_close(actual, expected, kind, what)
        return
    assert expected.dtype.kind != "c", f"{what}: {dtype}, the oracle gives complex numbers"
    with np.errstate(all="ignore"):
        rounded = expected.astype(actual.dtype).astype(np.float64)
        wanted = expected.astype(np.float64)
    found = actual.astype(np.float64)
    special = ~np.isfinite(rounded) | ~np.isfinite(found)
    same = np.where(np.isnan(rounded), np.isnan(found), found == rounded)
    wrong = special & ~same
    assert not wrong.any(), _worst(what, found, rounded, wrong)
    wanted = np.where(special, 0.0, wanted)
    found = np.where(special, 0.0, found)
    own, shared = allowed(TABLE[kind], dtype)
    largest = float(np.max(np.abs(wanted), initial=0.0))
    floor = 0.0 if kind == "exact" else SMALLEST[dtype]
    if kind == "exact":
        wanted = np.where(special, 0.0, rounded)
    limit = own * np.abs(wanted) + shared * largest + floor
    wrong = np.abs(found - wanted) > limit
    assert not wrong.any(), _worst(what, found, wanted, wrong)


def _assert_complex_close(actual: Any, expected: Any, kind: str, what: str) -> None:
    """Compare complex numbers: the error of both parts is relative to the absolute value."""
    dtype = {"complex64": "float32", "complex128": "float64"}[str(actual.dtype)]
    found, wanted = actual.astype(np.complex128), expected.astype(np.complex128)
    for one, other in ((found.real, wanted.real), (found.imag, wanted.imag)):
        special = ~np.isfinite(other)
        same = np.where(np.isnan(other), np.isnan(one), one == other)
        assert not (special & ~same).any(), f"{what}: {found[special]}, expected {wanted[special]}"
    fine = np.isfinite(wanted)
    found, wanted = np.where(fine, found, 0), np.where(fine, wanted, 0)
    # an exact operation on parts is one rounding or two on complex numbers
    own, shared = allowed(TABLE["elementwise" if kind == "exact" else kind], dtype)
    limit = own * np.abs(wanted) + shared * np.max(np.abs(wanted), initial=0.0) + SMALLEST[dtype]
    wrong = np.abs(found - wanted) > limit
    place = np.unravel_index(np.argmax(wrong), wrong.shape) if wrong.any() else ()
    assert not wrong.any(), (
        f"{what}: {int(wrong.sum())} of {wrong.size} elements are wrong, at {place}: "
        f"{found[place]}, expected {wanted[place]}"
    )


def is_floating(dtype: np.dtype[Any]) -> bool:
    """Tell whether a NumPy dtype is one of our floats, real or complex."""
    return bool(dtype.kind in "fc" or dtype == np.dtype(ml_dtypes.bfloat16))


def _worst(what: str, found: Any, wanted: Any, wrong: Any) -> str:
    with np.errstate(invalid="ignore"):
        difference = np.abs(np.asarray(found, np.float64) - np.asarray(wanted, np.float64))
    place = np.unravel_index(np.argmax(np.where(wrong, np.nan_to_num(difference), -1)), wrong.shape)
    at = tuple(int(i) for i in place)
    return (
        f"{what}: {int(wrong.sum())} of {wrong.size} elements are wrong, the worst at {at}: "
        f"{found[place]!r}, expected {wanted[place]!r} (difference {difference[place]:.3g})"
    )
