"""What rules do to numbers: the same bits, or within so many ULPs of the exact result.

`exact` rules are tried on the numbers where something changes: zeros of both signs, the smallest,
the largest, infinities, NaN (whose sign and payload do not count) and random bits; whole numbers
wrap around. `real` rules are held against the old expression computed with hundreds of digits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import mpmath
import numpy as np
import pytest

import symgraph as sg
from symgraph.graph.dtypes import ALL, is_float, is_integer, numpy_dtype
from symgraph.graph.node import Value
from symgraph.passes import stabilise
from symgraph.passes.algebra import cast_of_cast, numbers_added, sum_of_scaled
from tests.passes.exact import DIGITS, exact, numbers
from tests.passes.rule_cases import (
    CASES,
    FLOATS,
    WHOLE,
    Case,
    Site,
    computed,
    drawn,
    each,
    edges,
    spread,
)

Array = Any


def told(case: Case, site: Site, feeds: Any, wrong: Array, **arrays: Any) -> str:
    """Say which rule, on which numbers, and what came out."""
    place = tuple(int(i) for i in np.argwhere(wrong)[0]) if wrong.ndim else ()
    lines = [f"{case.id}: {site.old!r} -> {site.new!r}, wrong at {place}"]
    lines += [f"  {value.label} = {array.tolist()}" for value, array in feeds.items()]
    lines += [f"  {name}: {np.asarray(array)[place]!s}" for name, array in arrays.items()]
    return "\n".join(lines)


# -- the same bits --------------------------------------------------------------------------------

# which of 0 and -0 is the larger is open in NumPy, and follows the order of the operands
EITHER_ZERO = ("extreme_of_rearranged",)


def with_dtypes() -> list[Any]:
    """Give each example in the dtypes for which its rule promises the same bits.

    Among whole numbers all rules do, for there is no rounding. Examples of rules for any dtype
    that are not the same expression in one of them are left out, as is -1 without a sign.
    """
    found = []
    for case in CASES:
        kinds = {"float": FLOATS, "integer": WHOLE}.get(case.rule.dtypes, (*FLOATS, *WHOLE))
        if all(one.dtype == "bool" for one in case.operands.values()):
            kinds = ("bool",)
        exact = case.rule.sound == "exact"
        for dtype in kinds:
            if (case.rule.name, dtype) == ("times_minus_one", "uint8"):
                continue
            if case.rule.dtypes == "any" and case.site(dtype) is None:
                continue
            if exact or (case.rule.sound == "real" and not is_float(dtype)):
                found.append(pytest.param(case, dtype, id=f"{case.id}:bits:{dtype}"))
    return found


@pytest.mark.parametrize(("case", "dtype"), with_dtypes())
def test_the_same_bits(case: Case, dtype: str) -> None:
    site = case.site(dtype)
    assert site is not None, f"{case.id} does not fire for {dtype}"
    pools = {value.dtype: edges(value.dtype) for value in site.inputs.values()}
    for feeds in spread(site.inputs, pools, case.rng(), site.elementwise, 60):
        old, new = computed([site.old, site.new], feeds)
        wrong = differ(old, new)
        if case.rule.name in EITHER_ZERO:
            wrong &= (old != 0) | (new != 0)
        assert not wrong.any(), told(case, site, feeds, wrong, old=old, new=new)


def differ(old: Array, new: Array) -> Array:
    """Tell where two arrays differ in a bit; all NaNs are one."""
    assert (old.dtype, old.shape) == (new.dtype, new.shape)
    if not is_float(str(old.dtype)):
        return np.asarray(old != new)
    bits = {2: np.uint16, 4: np.uint32, 8: np.uint64}[old.dtype.itemsize]
    other = np.ascontiguousarray(old).view(bits) != np.ascontiguousarray(new).view(bits)
    with np.errstate(invalid="ignore"):
        none = np.isnan(old) & np.isnan(new)
    return np.asarray(other & ~none).reshape(old.shape)


SIGN_OF_ZERO = [one for one in CASES if one.rule.sound == "real" and one.rule.ulps == 0]


@pytest.mark.parametrize("dtype", FLOATS)
@each(SIGN_OF_ZERO, "zero")
def test_no_ulps_means_that_only_the_sign_of_a_zero_may_differ(case: Case, dtype: str) -> None:
    site = case.site(dtype)
    assert site is not None
    pools = {value.dtype: edges(value.dtype) for value in site.inputs.values()}
    for feeds in spread(site.inputs, pools, case.rng(), site.elementwise, 60):
        old, new = computed([site.old, site.new], feeds)
        wrong = differ(old, new) & ((old != 0) | (new != 0))
        assert not wrong.any(), told(case, site, feeds, wrong, old=old, new=new)


# rules leave complex numbers alone
NOT_COMPLEX = tuple(dtype for dtype in ALL if not dtype.startswith("complex"))


@pytest.mark.parametrize("first", NOT_COMPLEX)
def test_two_casts_are_one_for_every_number(first: str) -> None:
    """Every number of an 8- or 16-bit dtype, and edges of the others, through every two casts."""
    x = sg.tensor("x", (1,), first)
    array = _every(first)
    for second in NOT_COMPLEX:
        for third in NOT_COMPLEX:
            old = sg.cast(sg.cast(x, second), third)
            new = cast_of_cast(old) if old.op.name == "cast" else None
            if new is None:
                continue
            before, after = computed([old, new], {x: array})
            same = ~differ(before, after)
            if is_integer(third) and (is_float(first) or is_float(second)):
                same |= ~_fits(array, third)
            assert same.all(), f"{first} -> {second} -> {third}: {array[~same][:4]}"


def _fits(array: Array, dtype: str) -> Array:
    """Tell where a float becomes a whole number; what does not fit is up to the machine."""
    limits = np.iinfo(numpy_dtype(dtype))
    with np.errstate(all="ignore"):
        whole = np.trunc(array.astype(np.float64))
    return (whole >= float(limits.min)) & (whole < float(limits.max) + 1)


def _every(dtype: str) -> Array:
    target = numpy_dtype(dtype)
    if dtype == "bool" or target.itemsize > 2:
        return edges(dtype)
    bits = {1: np.uint8, 2: np.uint16}[target.itemsize]
    return np.arange(2 ** (8 * target.itemsize)).astype(bits).view(target)


def test_a_number_that_repeats_its_operand_stays_in_the_sum() -> None:
    x = sg.tensor("x", (3,))
    twos = sg.constant(np.full((2, 3), 2.0, np.float32))
    assert sum_of_scaled(sg.sum(x * twos, axis=0)) is None
    assert sum_of_scaled(sg.sum(x * 2.0, axis=0)) is not None


def test_numbers_are_added_only_where_their_sum_is_a_float() -> None:
    x = sg.vector("x")
    assert numbers_added((x + 0.5) + 0.25) is x + 0.75
    assert numbers_added((x + 1.0) + 1e-9) is None
    assert numbers_added((x + 3e38) + 3e38) is None
    assert numbers_added((x + np.inf) - np.inf) is None
    assert numbers_added((x + 2.0**24) + 1.0) is None


# -- near the exact result ------------------------------------------------------------------------

REAL = [case for case in CASES if case.rule.sound == "real" and case.rule.dtypes != "integer"]
STABLE = {rule.name for rule in stabilise.RULES}

EPSILON = 2.0**-23
TINY, HUGE = 2.0**-126, float(np.finfo(np.float32).max)
EXTREMES = (0.0, 1e-30, 1e-8, 1.0, 20.0, 88.7, 104.0, 1e4, 1e30)
LADDER = (60, 200, 5000)  # how many digits are tried

# Where terms cancel, a result is only as near as its largest term, as in every sum. An ULP is that
# of the largest of these terms, where it is larger than the result.
TERMS: Mapping[str, Callable[..., Array]] = {
    "log_exp_times": lambda x, y: np.maximum(np.abs(x), np.abs(np.log(y))),
    "log_exp_over": lambda x, y: np.maximum(np.abs(x), np.abs(np.log(y))),
    "log_over_exp": lambda x, y: np.maximum(np.abs(x), np.abs(np.log(y))),
    "logaddexp": lambda x, y: np.maximum(np.abs(np.maximum(x, y)), np.exp(-np.abs(x - y))),
    "logsumexp": lambda x: max(np.abs(x).max(), np.log(x.size)),
    "logsumexp_shifted": lambda x, y: max(np.abs(x).max(), np.log(x.size)),
    "total_of_rearranged": lambda x: np.abs(x).max(),
    "sum_of_repeated": lambda x: np.abs(x).max(),
}


@each(REAL, "ulps", whole=False)
def test_near_the_exact_result(case: Case) -> None:
    site = case.site()
    assert site is not None
    known = 0
    for feeds in tried(case, site):
        truth = true_values(site, feeds)
        old, new = computed([site.old, site.new], feeds)
        # the sum on the way to a mean is larger than the mean
        defined = np.isfinite(truth) & (np.abs(truth) <= (HUGE if site.elementwise else HUGE / 64))
        wrong = defined & ~near(case, site, feeds, truth, old, new)
        assert not wrong.any(), told(case, site, feeds, wrong, old=old, new=new, exact=truth)
        known += int(defined.sum())
    assert known >= 90, f"{case.id}: only {known} results are defined"


def near(case: Case, site: Site, feeds: Any, truth: Array, old: Array, new: Array) -> Array:
    """Tell where the new result is near enough, or no further away than the old one.

    A stabilisation must be finite where the exact result is. Below the smallest normal number
    an error of that number is no error.
    """
    with np.errstate(all="ignore"):
        error = np.abs(new.astype(np.float64) - truth)
        before = np.abs(old.astype(np.float64) - truth)
        limit = case.rule.ulps * unit(case, site, feeds, truth)
        lost = (np.abs(truth) < TINY) & (error <= TINY)
        as_before = error <= before
        if case.rule.name in STABLE:
            as_before &= np.isfinite(new)
        else:  # infinity instead of a number, as before
            as_before |= ~np.isfinite(old)
    return np.asarray((error <= limit) | lost | as_before)


def unit(case: Case, site: Site, feeds: Any, truth: Array) -> Array:
    """Give the size of one ULP at each exact element.

    Results of reductions are measured at the largest element of the result, and where terms
    cancel at the largest term.
    """
    sizes = np.abs(np.where(np.isfinite(truth), truth, 0))
    if not site.elementwise:
        sizes = np.full(truth.shape, sizes.max(initial=0))
    terms = TERMS.get(case.rule.name)
    if terms is not None:
        given = {value.label: array.astype(np.float64) for value, array in feeds.items()}
        found = terms(**given)
        sizes = np.maximum(sizes, np.where(np.isfinite(found), found, 0))
    exponent = np.floor(np.log2(np.maximum(sizes, TINY)))
    return np.asarray(np.exp2(exponent) * EPSILON)


def tried(case: Case, site: Site) -> Iterator[dict[Value, Array]]:
    """Give operands from the example's ranges, extreme ones, and ones of every size.

    What is a probability stays one.
    """
    rng = case.rng()
    for _ in range(40):
        yield drawn(case, site.inputs, rng)
    both = np.array([*EXTREMES, *(-x for x in EXTREMES[1:])], np.float32)
    sizes = (2.0 ** rng.uniform(-126, 127, 200) * rng.choice([-1, 1], 200)).astype(np.float32)
    shares = [name for name, one in case.operands.items() if (one.low, one.high) == (0, 1)]
    for pool, most in ((both, 40), (sizes, 30)):
        for feeds in spread(site.inputs, {"float32": pool}, rng, site.elementwise, most):
            for name in shares:
                value = site.inputs[name]
                feeds[value] = rng.choice([0.0, 1.0, 0.5, 1e-3], value.shape).astype(np.float32)
            yield feeds


def true_values(site: Site, feeds: Any) -> Array:
    """Compute the old expression with as many digits as it takes, then rounded to float64.

    NaN where there is no such number, or where more digits are needed than are worth the time.
    """
    last: Array = None
    small = all(np.abs(array).max(initial=0) < 2e4 for array in feeds.values())
    for digits in LADDER if small else LADDER[:2]:
        with mpmath.workdps(digits):
            given = {value: numbers(array) for value, array in feeds.items()}
            (found,) = exact([site.old], given, DIGITS)
            if last is not None:
                agree = np.asarray(np.frompyfunc(_agree, 2, 1)(last, found), bool)
                if agree.all():
                    break
            last = found
    return np.where(agree, np.asarray(np.frompyfunc(_rounded, 1, 1)(found), np.float64), np.nan)


def _rounded(number: Any) -> float:
    """Give NaN, too, for what is larger than any float64."""
    return float(number) if abs(number) < 1e300 else float("nan")


def _agree(first: Any, second: Any) -> bool:
    return bool(abs(first - second) <= 1e-20 * abs(second))


@each([case for case in REAL if case.site().elementwise], "nan")  # type: ignore[union-attr]
def test_no_nan_is_hidden(case: Case) -> None:
    site = case.site()
    assert site is not None
    for hidden in site.inputs.values():
        feeds = drawn(case, site.inputs, case.rng())
        feeds[hidden] = np.full_like(feeds[hidden], np.nan)
        old, new = computed([site.old, site.new], feeds)
        wrong = np.isnan(old) & ~np.isnan(new)
        assert not wrong.any(), told(case, site, feeds, wrong, old=old, new=new)
