"""A function that cannot fit into memory is refused before anything runs or is written."""

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import MemoryLimitError


def test_a_call_that_cannot_fit_is_refused_with_the_largest_size_that_fits() -> None:
    B = sg.dim("B")
    x, n = sg.tensor("x", (B, 1000)), sg.shared(0, "n")
    f = sg.function([x], (sg.exp(x) + sg.sin(x)).sum(), updates={n: n + 1}, name="step")
    with sg.config(memory_limit="1 MB"):
        f(np.ones((10, 1000), "float32"))
        with pytest.raises(MemoryLimitError) as caught:
            f(np.ones((1000, 1000), "float32"))
    assert isinstance(caught.value, MemoryError)
    assert int(n.value) == 1
    largest = int(str(caught.value).rsplit(" ", 1)[1])
    assert largest == sg.cost(f).max_dim(B, "1 MB")
    with sg.config(memory_limit="1 MB"):
        f(np.ones((largest, 1000), "float32"))
        with pytest.raises(MemoryLimitError, match="does not fit in memory"):
            f(np.ones((largest + 1, 1000), "float32"))


def test_a_lower_limit_holds_for_sizes_that_came_before() -> None:
    x = sg.tensor("x", (sg.dim("B"), 1000))
    f = sg.function([x], sg.exp(x).sum())
    array = np.ones((10, 1000), "float32")
    f(array)
    with sg.config(memory_limit="1 kB"), pytest.raises(MemoryLimitError):
        f(array)
    f(array)
    with sg.config(memory_limit="1 kB"), pytest.raises(MemoryLimitError):
        f(array)


def test_impossible_work_never_starts() -> None:
    x = sg.tensor("x", (sg.dim("B"),))
    table = sg.broadcast_to(x, (10**7, x.shape[0])) * sg.arange(10**7, dtype="float32")[:, None]
    f = sg.function([x], table)
    with pytest.raises(MemoryLimitError, match=r"needed : at least .* = .*B"):
        f(np.ones(10**6, "float32"))
