"""Tables: normal forms, printing, comparison, errors, limits, interning."""

from __future__ import annotations

import copy
import gc
import pickle
import threading

import numpy as np
import pytest

from symgraph.dims import (
    Dim,
    Size,
    Undecided,
    anonymous,
    as_size,
    bounds,
    ceil_div,
    codec,
    core,
    dim,
    dims,
    divides,
    equal,
    evaluate,
    evaluate_all,
    free,
    is_symbol,
    latex,
    less,
    less_equal,
    maximum,
    minimum,
    product,
    substitute,
    text,
    total,
)
from symgraph.errors import DimError, UndecidedError

B, C, H, W = dims("B C H W")
Z = dim("Z", min=0)


def test_one_normal_form() -> None:
    same = [
        ((B - 3) // 2 + 1, (B - 1) // 2),
        ((H // 2) // 2, H // 4),
        (B - 2 * (B // 2), B % 2),
        ((H - 1) // 2 + 1, (H + 1) // 2),
        (((H + 1) // 2 + 1) // 2, (H + 3) // 4),
        (((H - 1) // 2 + 1 - 1) // 2 + 1, (H + 3) // 4),
        ((6 * B + 4) // 4, (3 * B + 2) // 2),
        ((5 * B + 7) // 2, 2 * B + 3 + (B + 1) // 2),
        (B // -2, (-B) // 2),
        ((B * H) // (B * C), H // C),
        ((B * H + C) // B, H + C // B),
        (H // C // W, H // (C * W)),
        ((B % 6) % 3, B % 3),
        ((B * C + B) // (C + 1), B),
        (minimum(B + 1, C + 1), minimum(B, C) + 1),
        (minimum(B, C, minimum(H, B)), minimum(H, C, B)),
        (minimum(2 * B, 2 * C), 2 * minimum(B, C)),
        (minimum(B * H, B * W), B * minimum(H, W)),
        (maximum(B, C) + minimum(B, C), B + C),
        (maximum(Z - 1, 0) + 1, maximum(Z, 1)),
        (maximum(maximum(B, C), H), maximum(H, C, B)),
        (minimum(-B, -C), -maximum(B, C)),
        ((B + 1) ** 2 - B**2, 2 * B + 1),
        (divmod(B, 4)[0] * 4 + divmod(B, 4)[1], B),
        (divmod(7, B + 7)[0], 0),
    ]  # fmt: skip
    for left, right in same:
        assert left is right or (type(left) is type(right) is int and left == right)


def test_constants_are_ints() -> None:
    for value, expected in [
        (B - B, 0), (B + 3 - B, 3), (0 * B, 0), ((B % 8) // 8, 0), (B // B, 1), (B**0, 1),
        ((2 * B + B % 2) // 2 - B, 0), (minimum(B, 0), 0), (minimum(B % 4, 7) - B % 4, 0),
        ((B - 1) // B, 0), (-1 // B, -1), (H % (H * C) // (H * C), 0),
    ]:  # fmt: skip
        assert type(value) is int
        assert value == expected


def test_printing() -> None:
    x = anonymous("x.shape[0]")
    for size, expected in [
        (B, "B"), (x, "x.shape[0]"), (2 * B * H, "2*B*H"), (B - 1, "B - 1"), (1 - B, "1 - B"),
        (-B, "-B"), (-B - 3, "-B - 3"), (H - B, "H - B"), (B * B * 3, "3*B**2"),
        ((B - 3) // 2 + 1, "(B - 1)//2"), ((B + 1) // 2, "(B + 1)//2"), (B // 2, "B//2"),
        (-(B // 2), "-(B//2)"), (3 * (B // 2), "3*(B//2)"), (H * (B // 2), "H*(B//2)"),
        (B % 2, "B % 2"), ((B + 5) % 3, "(B + 2) % 3"), (3 * (H % 2) + 1, "3*(H % 2) + 1"),
        (H // (B * C), "H//(B*C)"), (minimum(B, C), "min(B, C)"), (maximum(C, B), "max(B, C)"),
        (maximum(B - 5, 0), "max(B - 5, 0)"), (2 * maximum(B, C), "2*max(B, C)"),
        (maximum(B, C, H) - 2, "max(B - 2, C - 2, H - 2)"), (minimum(B, 7), "min(B, 7)"),
        ((B // 2) ** 2, "(B//2)**2"), ((H - 11) // 4 + 1, "(H - 7)//4"),
        (minimum(B, C) // 2, "min(B, C)//2"), (maximum(B, C) // 2, "max(B, C)//2"),
    ]:  # fmt: skip
        assert str(size) == text(size) == repr(size) == f"{size}" == expected
    assert text(5) == "5"
    assert f"{B:>4}" == "   B"


def test_latex() -> None:
    for size, expected in [
        (3, "3"),
        (2 * B * H + 1, r"2 \, B \, H + 1"),
        (B**2, "B^{2}"),
        (dim("batch_size") - 1, r"\mathrm{batch\_size} - 1"),
        ((B + 1) // 2, r"\left\lfloor \frac{B + 1}{2} \right\rfloor"),
        ((B + 1) % 2, r"\left( B + 1 \right) \bmod 2"),
        (minimum(B, C), r"\min\left( B, C \right)"),
    ]:
        assert latex(size) == expected


def test_names_are_interned() -> None:
    assert dim("B") is B
    assert dims("B, H") == (B, H)
    assert (B, 3) == (B, 3)
    assert {B + 1: "x"}[1 + B] == "x"
    assert anonymous("n") is not anonymous("n")
    assert bounds(anonymous("n")) == (0, None)
    assert is_symbol(B)
    assert not is_symbol(B + 1)
    assert not is_symbol(3)


@pytest.mark.parametrize("name", ["", "3x", "a b", "class", "x.shape", 3])
def test_names_must_be_identifiers(name: str) -> None:
    with pytest.raises(DimError, match="must be a Python identifier"):
        dim(name)


def test_least_value_of_a_name() -> None:
    kept = dim("kept", min=2)
    with pytest.raises(DimError, match=r"size `kept` exists with min=2; it cannot also have min=1"):
        dim("kept")
    assert kept is dim("kept", min=2)
    formula = dim("dropped") * 2 + 1
    del formula
    assert bounds(dim("dropped", min=0)) == (0, None)  # nobody holds the old one any more
    with pytest.raises(DimError, match="must be an int >= 0"):
        dim("bad", min=-1)
    with pytest.raises(DimError, match="label of an anonymous size"):
        anonymous("")


def test_formulas_nobody_holds_disappear() -> None:
    core.forget()
    gc.collect()
    before = len(core._table)
    sizes = [(B + i) // 7 * H for i in range(100)]
    assert len(core._table) > before + 100
    del sizes
    core.forget()
    gc.collect()
    assert len(core._table) == before


def test_comparison() -> None:
    decided = [
        (B == B, True), (B != B, False), (B < B + 1, True), (B <= B, True), (B > 0, True),
        (B >= 1, True), (B < 1, False), (B == 0, False), (B != 0, True), (B + 3 > 3, True),
        (2 * B == 3, False), (B * C >= B, True), (H // 2 <= H, True), (H // 2 < H, True),
        (ceil_div(H, 2) <= H, True), (minimum(B, C) <= C, True), (maximum(B, C) >= C, True),
        (B % 4 < 4, True), (B % C < C, True), (B // C <= B, True), (H - H // 3 >= H // 2, True),
        (2 * (H // 2) == 2 * H - 1, False), (-(-B // 2) == (B + 1) // 2, True),
        (B * H == B, None), (B % 2 == 1, None), (B % 2 == 2, False), (4 * (B % 2) == 2, False),
        ((3 * B) // 2 == B + B // 2, True), (B == None, False), (B == "B", False),  # noqa: E711
    ]  # fmt: skip
    for answer, expected in decided:
        if expected is None:
            assert type(answer) is Undecided
        else:
            assert answer is expected


def test_undecided() -> None:
    for answer, words in [
        (B == 3, "`B == 3`"), (B != C, "`B != C`"), (B < H // 2, "`B < H//2`"),
        (B > 3, "`3 < B`"), (B >= C, "`C <= B`"),
    ]:  # fmt: skip
        with pytest.raises(UndecidedError, match=r"true for some sizes and false for others") as e:
            bool(answer)
        assert words in str(e.value)
        assert "sg.dims.equal" in str(e.value)
    assert repr(B == 3) == "Undecided(B == 3)"
    with pytest.raises(UndecidedError):
        _ = (B, 3) == (C, 3)
    assert bool(B)
    with pytest.raises(UndecidedError, match="Z != 0"):
        bool(Z)


def test_a_formula_is_no_number() -> None:
    for convert in (int, float, range, lambda x: [0][x]):
        with pytest.raises(UndecidedError, match=r"size `B \+ 1` has no number yet"):
            convert(B + 1)


def test_three_valued_answers() -> None:
    assert equal(3, 3) is True
    assert less(3, 3) is False
    assert less_equal(3, 3) is True
    assert less(B, C) is None
    assert less_equal(B, 2 * B) is True
    assert divides(B, B * C) is True
    assert divides(2, B) is None
    assert divides(2, 4 * B + 2) is True
    assert divides(2, 2 * B + 1) is False
    assert divides(3, 12) is True
    assert divides(0, 0) is True
    assert divides(0, B) is False
    assert divides(B, 0) is True
    assert divides(Z, Z * B) is True
    assert divides(Z, B) is None
    assert divides(B + 1, B * B - 1) is True
    assert divides(B + 1, B) is False
    assert divides(2, B * 2 // 2 + B) is True
    assert equal(H // 2 + (H + 1) // 2, H) is True
    assert equal(H // 3 + (H + 1) // 3 + (H + 2) // 3, H) is True  # Hermite's identity
    assert equal(3 * H // 4 - H // 2, (H + 1) // 4) is True  # only the exact analysis knows


def test_numbers_of_numpy_are_sizes() -> None:
    assert B + np.int64(1) is B + 1
    assert np.int32(2) * B is 2 * B
    assert np.uint8(7) - B is 7 - B
    assert np.int64(9) // (B + 9) == 0
    assert type(as_size(np.int64(3))) is int
    assert (np.int64(0) == B) is False


@pytest.mark.parametrize("value", [True, np.True_, 1.0, np.float32(2), 1j])
def test_other_numbers_are_refused(value: object) -> None:
    for operation in (
        lambda: B + value, lambda: value * B, lambda: B // value, lambda: value == B,
        lambda: value > B, lambda: as_size(value),
    ):  # fmt: skip
        with pytest.raises(DimError, match="is no size"):
            operation()


def test_foreign_operands_are_left_to_their_class() -> None:
    class Foreign:
        def __radd__(self, other: object) -> str:
            return f"foreign + {other}"

    assert B + Foreign() == "foreign + B"
    with pytest.raises(TypeError):
        B + "x"
    with pytest.raises(TypeError):
        B * np.ones(2)
    with pytest.raises(DimError, match="must be an int or a Dim, not str 'x'"):
        as_size("x")


def test_division_errors() -> None:
    with pytest.raises(DimError, match=r"\(B\)//0: division of a size by zero"):
        B // 0
    with pytest.raises(DimError, match=r"division of a size by zero"):
        B % 0
    with pytest.raises(DimError, match="the divisor may be 0 for admissible sizes"):
        B // Z
    with pytest.raises(DimError, match="the divisor may be 0"):
        5 % (B - 1)
    with pytest.raises(DimError, match=r"no size: sizes are integers.*\n.*ceil_div"):
        B / 2
    with pytest.raises(DimError, match="the exponent is negative"):
        B**-1
    with pytest.raises(DimError, match="must be a number, not a size"):
        B**C
    with pytest.raises(DimError, match="must be a number, not a size"):
        2**B
    with pytest.raises(DimError, match=r'sg.dim\("B"\)'):
        Dim("B")
    with pytest.raises(DimError, match="min of no sizes"):
        minimum()


def test_ceil_div() -> None:
    for a in range(-7, 8):
        for b in (-3, -1, 1, 2, 5):
            assert ceil_div(a, b) == -((-a) // b)
    assert ceil_div(B, 2) is (B + 1) // 2
    assert ceil_div(B, -2) == -(B // 2)
    with pytest.raises(DimError, match="zero"):
        ceil_div(3, 0)


def test_evaluation_and_substitution() -> None:
    formula = (B * H - 3) // 2 + maximum(B, H) % 5
    assert evaluate(formula, {B: 3, H: 8}) == (24 - 3) // 2 + 8 % 5
    assert evaluate_all((formula, 7, B), {B: 3, H: 8}) == (13, 7, 3)
    assert substitute(formula, {B: 3, H: 8}) == 13
    assert substitute(B + H, {B: H, H: B}) is B + H
    assert substitute((H + 1) // 2, {H: 2 * B}) is B
    assert substitute(7, {B: 3}) == 7
    assert free(formula) == {B, H}
    assert free(3) == frozenset()
    assert product([B, 2, H]) is 2 * B * H
    assert product([]) == 1
    assert total([B, 2, H, -B]) is H + 2
    with pytest.raises(DimError, match=r"size `H` is not given.\n  given: B"):
        evaluate(formula, {B: 3})
    with pytest.raises(DimError, match="must be a number"):
        evaluate(formula, {B: 3, H: B})
    with pytest.raises(DimError, match="out of its bounds"):
        evaluate(C // B, {B: 0, C: 1})
    with pytest.raises(DimError, match="only named sizes can be replaced"):
        substitute(B, {B + 1: 3})


def test_deep_formulas() -> None:
    size, value = H, 10**70
    for _ in range(200):
        size, value = size // 2, value // 2
    assert size is H // 2**200
    size, value = H, 12345
    for step in range(200):  # nothing merges here
        size, value = (size + B) * 3 // 2 // (C + step), (value + 7) * 3 // 2 // (5 + step)
    env = {H: 12345, B: 7, C: 5}
    assert evaluate(size, env) == value
    assert substitute(size, env) == value
    assert len(str(size)) <= 2000
    assert len(latex(size)) <= 2000
    assert free(size) == {B, C, H}
    assert codec.decode(codec.encode([size]))[0] is size
    low, _ = bounds(size)
    assert low is None or low <= value


def test_formulas_do_not_explode() -> None:
    def squared(size: Size) -> None:
        for _ in range(200):
            size = size * size

    with pytest.raises(DimError, match=r"at most 10000 terms and 250000 products"):
        squared(B + H + 1)
    with pytest.raises(DimError, match="multiplies more than 256 sizes"):
        squared(B)
    with pytest.raises(DimError, match="a size formula has 10001 terms; at most 10000"):
        total(anonymous("n") for _ in range(10_001))
    shared = B
    for _ in range(200):  # 2**200 leaves, were it written out
        shared = (shared + 1) // 2 + shared
    assert len(str(shared)) <= 2000
    assert evaluate(shared, {B: 1}) > 2**100


def test_copies_are_the_same_object() -> None:
    size = (B + 1) // 2
    assert copy.copy(size) is copy.deepcopy([size])[0] is size
    assert pickle.loads(pickle.dumps(size)) is size


def test_codec() -> None:
    x = anonymous("x.shape[0]")
    data = codec.encode([x + B, x // 2, 5, maximum(B, C, x), -x])
    y_plus_b, y_half, five, largest, minus_y = codec.decode(data)
    (y,) = free(minus_y)
    assert y is not x
    assert str(y) == "x.shape[0]"
    assert (y + B, y // 2, 5, maximum(B, C, y)) == (y_plus_b, y_half, five, largest)
    damaged = [
        None, [], {}, {"atoms": [], "sizes": [[[1, 0]]]}, {"atoms": 3, "sizes": []},
        {"atoms": [["size", "B"]], "sizes": []}, {"atoms": [["%", [[1]], [[2]]]], "sizes": []},
        {"atoms": [[]], "sizes": []}, {"atoms": [], "sizes": [[[True]]]},
        {"atoms": [], "sizes": [[[]]]}, {"atoms": [["size", "B", 1]], "sizes": [[[1, -1]]]},
    ]  # fmt: skip
    for wrong in damaged:
        with pytest.raises(DimError, match="damaged sizes"):
            codec.decode(wrong)


def test_threads_make_one_object() -> None:
    start = threading.Barrier(8)
    results: list[list[object]] = []

    def work() -> None:
        start.wait()
        results.append([(dim(f"t{i % 7}") * 3 + i) // 5 for i in range(300)])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    for other in results[1:]:
        assert all(a is b for a, b in zip(results[0], other))
