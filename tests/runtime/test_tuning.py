"""Which way of a library is the fastest: measured once, kept, and never one that does not work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import BackendError
from symgraph.runtime import tuning
from symgraph.runtime.cache import default_cache
from tests.backends.host_device import HostDevice
from tests.backends.host_libraries import WAYS, HostLibrary, HostRoutine, libraries

QUICK, SLOW, LATER, BROKEN = WAYS


class Timed(HostLibrary):
    """Its first way is slow, and it keeps what it has planned."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[HostRoutine] = []
        self.broken: dict[str, str] = {}  # more ways that fail, and what they say

    def prepare(self, *asked: Any) -> HostRoutine:
        made = super().prepare(*asked)
        made.slow = {QUICK: 5e-3, SLOW: 1e-2}
        made.broken |= self.broken
        self.made.append(made)
        return made


@pytest.fixture
def library(host: HostDevice, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Timed:
    monkeypatch.setattr(tuning, "_known", {})
    host.kind = f"this CPU, {tmp_path}"
    made = Timed()
    host.libraries = libraries(made)
    return made


def product(size: int = 8) -> tuple[sg.Function, list[Any]]:
    x, y = sg.tensor("x", (size, 4)), sg.tensor("y", (4, size))
    rng = np.random.default_rng(size)
    arrays = [rng.standard_normal(one.shape).astype(np.float32) for one in (x, y)]
    return sg.function([x, y], x @ y, backend="cuda"), arrays


def test_the_fastest_is_taken(library: Timed) -> None:
    f, (x, y) = product()
    np.testing.assert_allclose(f(x, y), x @ y, rtol=1e-5)
    (made,) = library.made
    assert made.implementation == LATER
    row = next(one for one in f.profile(x, y).rows if "numpy" in one.implementation)
    assert row.implementation == LATER


def test_it_is_measured_once(library: Timed) -> None:
    for again in range(2):
        f, arrays = product()
        f(*arrays)
        assert library.made[-1].implementation == LATER
        assert (library.made[-1].runs == 1) == bool(again), "one call, and nothing measured"


def test_another_process_finds_it_on_the_disk(
    library: Timed, monkeypatch: pytest.MonkeyPatch
) -> None:
    f, arrays = product()
    f(*arrays)
    if default_cache().get(tuning._key(f._executor.device, library.made[0])) is None:
        pytest.skip("no cache on this disk")
    monkeypatch.setattr(tuning, "_known", {})
    f, arrays = product()
    f(*arrays)
    assert library.made[-1].runs == 1
    assert library.made[-1].implementation == LATER


def test_a_name_that_is_no_longer_known_is_measured_anew(
    library: Timed, monkeypatch: pytest.MonkeyPatch
) -> None:
    f, arrays = product()
    f(*arrays)
    name = tuning._key(f._executor.device, library.made[0])
    monkeypatch.setattr(tuning, "_known", {name: "of a version before"})
    f, arrays = product()
    f(*arrays)
    assert library.made[-1].runs > 1
    assert library.made[-1].implementation == LATER


def test_another_device_measures_for_itself(library: Timed, host: HostDevice) -> None:
    f, arrays = product()
    f(*arrays)
    host.kind += ", a newer one"
    f, arrays = product()
    f(*arrays)
    assert library.made[-1].runs > 1


def test_what_is_hardly_faster_is_not_taken(
    library: Timed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the bits of results would depend on noise."""
    monkeypatch.setattr(tuning, "CLEARLY", 1e-3)
    f, arrays = product()
    f(*arrays)
    assert library.made[0].implementation == QUICK


def test_the_same_product_twice_is_measured_once(library: Timed) -> None:
    x, y = sg.tensor("x", (8, 4)), sg.tensor("y", (4, 8))
    f = sg.function([x, y], [x @ y, sg.exp(x) @ y], backend="cuda")
    f(np.ones((8, 4), np.float32), np.ones((4, 8), np.float32))
    first, second = library.made
    assert sorted([first.runs, second.runs])[0] == 1
    assert first.implementation == second.implementation == LATER


def test_a_first_way_that_fails_is_passed_over(library: Timed, host: HostDevice) -> None:
    library.broken = {QUICK: "is not for this device"}
    f, (x, y) = product()
    for _ in range(3):
        np.testing.assert_allclose(f(x, y), x @ y, rtol=1e-5)
    (made,) = library.made
    assert made.implementation == LATER
    assert host.replays, "what is chosen can be recorded"


def test_what_works_is_taken_however_slow_it_is(library: Timed) -> None:
    """And it is kept: the next function need not find out what fails."""
    library.broken = {QUICK: "is not for this device", LATER: "nor is this"}
    for _ in range(2):
        f, (x, y) = product()
        np.testing.assert_allclose(f(x, y), x @ y, rtol=1e-5)
        assert library.made[-1].implementation == SLOW
    assert library.made[-1].runs == 1


def test_where_nothing_works_each_way_says_why(library: Timed) -> None:
    library.broken = {QUICK: "is not for this device", SLOW: "nor this", LATER: "nor that"}
    f, (x, y) = product()
    for _ in range(2):  # nothing is kept of it
        with pytest.raises(BackendError, match="matmul: none of the library's ways") as caught:
            f(x, y)
        said = str(caught.value)
        assert f"  {QUICK}: numpy: is not for this device.\n" in said
        assert f"  {SLOW}: numpy: nor this.\n" in said
        assert f"  {LATER}: numpy: nor that.\n" in said
        assert f"  {BROKEN}: numpy: does not work in this way, after all.\n" in said
        assert said.endswith('fix: compile with backend="cpu", and please report this')
    library.broken = {}
    f, _ = product()
    np.testing.assert_allclose(f(x, y), x @ y, rtol=1e-5)


def test_ways_without_room_are_named_where_nothing_works(
    library: Timed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A way that needs more memory than there is might have worked."""
    library.broken = {QUICK: "is not for this device"}
    monkeypatch.setattr(tuning, "MOST_WORKSPACE", 1000)
    f, arrays = product()
    with pytest.raises(BackendError, match="not tried: 1,100 bytes to work in are not to be had"):
        f(*arrays)
