"""Guards: recorded, checked, and shown with both sides."""

from __future__ import annotations

import threading

import pytest

from symgraph.dims import (
    Guard,
    collect_guards,
    dims,
    require_divides,
    require_equal,
    require_less_equal,
)
from symgraph.errors import DimError, GuardError, UndecidedError

B, C = dims("B C")


def test_decided_requirements_record_nothing() -> None:
    with collect_guards() as guards:
        require_equal(B + 1, 1 + B, "add")
        require_less_equal(1, B, "add")
        require_divides(2, 4 * B, "split")
        require_equal(3, 3, "add")
    assert guards == []


@pytest.mark.parametrize(
    ("require", "left", "right", "words"),
    [
        (require_equal, 3, 4, "add: 3 != 4."),
        (require_equal, 2 * B, 3, "add: 2*B != 3 for every B."),
        (require_equal, B + C, B - 1, "add: B + C != B - 1 for every B, C."),
        (require_less_equal, B + 1, B, "add: B + 1 > B for every B."),
        (require_divides, 2, 2 * B + 1, "add: (2*B + 1) % 2 != 0 for every B."),
    ],
)
def test_impossible_requirements_raise(require, left, right, words) -> None:  # type: ignore[no-untyped-def]
    with collect_guards() as guards, pytest.raises(DimError) as error:
        require(left, right, "add")
    assert str(error.value) == words
    assert guards == []


def test_the_innermost_collector_gets_each_guard_once() -> None:
    with collect_guards() as outer:
        require_equal(B, 3, "a")
        with collect_guards() as inner:
            require_equal(B, 3, "b")
            require_equal(B, 3, "b")
            require_divides(4, B, "b")
        require_less_equal(B, C, "c")
    assert [str(guard) for guard in outer] == ["B == 3 (a)", "B <= C (c)"]
    assert [str(guard) for guard in inner] == ["B == 3 (b)", "B % 4 == 0 (b)"]
    assert Guard("equal", B, 3, "a") == outer[0]
    assert hash(Guard("equal", B, 3, "a")) == hash(outer[0])
    assert outer[0] != inner[0]
    assert outer[0] != "B == 3"


def test_without_a_collector_it_is_an_error() -> None:
    with pytest.raises(UndecidedError, match=r"matmul: whether B == 3 depends on the sizes"):
        require_equal(B, 3, "matmul")


def test_collectors_of_threads_are_apart() -> None:
    errors: list[Exception] = []

    def work() -> None:
        try:
            require_equal(B, 3, "thread")
        except UndecidedError as error:
            errors.append(error)

    with collect_guards() as guards:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert guards == []
    assert len(errors) == 1


def test_a_collector_is_closed_by_an_exception() -> None:
    with pytest.raises(KeyError), collect_guards():
        raise KeyError
    with pytest.raises(UndecidedError):
        require_equal(B, 3, "after")


def test_holds_and_check() -> None:
    guard = Guard("equal", 2 * B, C + 1, "concatenate `x` with `y`, axis 0")
    assert guard.holds({B: 2}) is None
    assert guard.holds({B: 2, C: 3}) is True
    assert guard.holds({B: 2, C: 4}) is False
    assert guard.free() == {B, C}
    guard.check({B: 2, C: 3})
    with pytest.raises(GuardError) as error:
        guard.check({B: 2, C: 4})
    assert str(error.value).splitlines()[:4] == [
        "concatenate `x` with `y`, axis 0: needs 2*B == C + 1, but 4 != 5.",
        "  `2*B` is 4",
        "  `C + 1` is 5",
        "  with B = 2, C = 4",
    ]
    with pytest.raises(GuardError, match=r"needs B <= C, but 5 > 3"):
        Guard("less_equal", B, C, "slice").check({B: 5, C: 3})
    with pytest.raises(GuardError, match=r"needs C % B == 0, but 3 % 2 != 0"):
        Guard("divides", B, C, "split").check({B: 2, C: 3})
    assert Guard("divides", 3, B, "split").holds({B: 6}) is True
