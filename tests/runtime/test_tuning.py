"""Which way of a library is the fastest: measured once, kept, and never one that does not work."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.config import config
from symgraph.errors import BackendError
from symgraph.runtime import tuning
from symgraph.runtime.cache import HEADER, DiskCache, default_cache
from symgraph.runtime.tuning import Way
from tests.backends.host_device import HostDevice
from tests.backends.host_libraries import WAYS, HostLibrary, HostRoutine, libraries

QUICK, SLOW, LATER, BROKEN = WAYS


class Timed(HostLibrary):
    """Its first way is slow, and it keeps what it has planned."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[HostRoutine] = []
        self.broken: dict[str, str] = {}  # more ways that fail, and what they say
        self.saves = True

    def prepare(self, *asked: Any) -> HostRoutine:
        made = super().prepare(*asked)
        made.slow = {QUICK: 5e-3, SLOW: 1e-2}
        made.broken |= self.broken
        made.saves = self.saves
        self.made.append(made)
        return made


@pytest.fixture
def library(host: HostDevice, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Timed]:
    monkeypatch.setattr(tuning, "_known", {})
    made = Timed()
    host.libraries = libraries(made)
    with config(cache=str(tmp_path / "cache")):
        yield made


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


def again(library: Timed, monkeypatch: pytest.MonkeyPatch) -> HostRoutine:
    """The routine of a process that knows only what is on the disk, after a call that is right."""
    monkeypatch.setattr(tuning, "_known", {})
    f, (x, y) = product()
    np.testing.assert_allclose(f(x, y), x @ y, rtol=1e-5)
    made = library.made[-1]
    assert made.implementation == LATER
    return made


def kept(library: Timed, host: HostDevice) -> bytes | None:
    """What is on the disk for the last routine."""
    return default_cache().get(tuning._key(host, library.made[-1]))


@pytest.fixture
def found(library: Timed, host: HostDevice) -> bytes:
    """What is on the disk after a first process."""
    f, arrays = product()
    f(*arrays)
    entry = kept(library, host)
    assert entry is not None
    return entry


def test_another_process_restores_what_is_on_the_disk(
    library: Timed, found: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found == Way(LATER, library.made[-1].saved()).entry
    made = again(library, monkeypatch)
    assert made.runs == 1, "nothing is measured"
    assert (made.restored, made.chosen) == ([LATER], []), "and nothing built by its name"


def test_the_same_operation_again_is_restored_in_the_same_process(
    library: Timed, found: bytes
) -> None:
    f, arrays = product()
    f(*arrays)
    assert (library.made[-1].restored, library.made[-1].chosen) == ([LATER], [])


@pytest.mark.parametrize("saved", [b"of another version", b"", b"\0\0"])
def test_what_cannot_be_restored_is_found_by_its_name_and_kept_anew(
    library: Timed, host: HostDevice, found: bytes, saved: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    default_cache().put(tuning._key(host, library.made[-1]), Way(LATER, saved).entry)
    made = again(library, monkeypatch)
    assert made.runs == 1, "nothing is measured"
    assert (made.restored, made.chosen) == ([], [LATER])
    assert kept(library, host) == found
    assert again(library, monkeypatch).restored == [LATER]


@pytest.mark.parametrize("damage", [-1, HEADER.size + 3])
def test_a_damaged_entry_is_measured_and_kept_anew(
    library: Timed, host: HostDevice, found: bytes, damage: int,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    folder = default_cache().folder
    assert folder is not None
    (file,) = folder.glob("*.code")
    content = bytearray(file.read_bytes())
    content[damage] ^= 1
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING, "symgraph"):
        made = again(library, monkeypatch)
    assert "its bytes are not those that were written" in caplog.text
    assert made.runs > 1
    assert made.restored == []
    assert kept(library, host) == found


@pytest.mark.parametrize("entry", [b"numpy, at last", b"numpy, at last\0" + bytes(1 << 21)])
def test_what_is_no_entry_is_measured_and_kept_anew(
    library: Timed, host: HostDevice, found: bytes, entry: bytes,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    default_cache().put(tuning._key(host, library.made[-1]), entry)
    with caplog.at_level(logging.WARNING, "symgraph"):
        assert again(library, monkeypatch).runs > 1
    assert "the fastest way of a library is none" in caplog.text
    assert kept(library, host) == found


def test_what_is_too_large_is_kept_by_its_name_alone(
    library: Timed, host: HostDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "MOST_SAVED", 3)
    f, arrays = product()
    f(*arrays)
    assert kept(library, host) == Way(LATER).entry
    assert again(library, monkeypatch).chosen == [LATER]


@pytest.mark.parametrize("saves", [True, False])
def test_what_is_known_is_not_written_again(
    library: Timed, host: HostDevice, saves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.saves = saves
    f, arrays = product()
    f(*arrays)
    written: list[bytes] = []
    monkeypatch.setattr(DiskCache, "put", lambda self, key, data: written.append(data))
    for _ in range(2):
        made = again(library, monkeypatch)
        assert (made.restored, made.chosen) == (([LATER], []) if saves else ([], [LATER]))
    assert not written


def test_the_only_way_is_kept_too(
    library: Timed, host: HostDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It need not be measured; but to build it may take long."""
    monkeypatch.setattr(HostRoutine, "alternatives", lambda self: [self.implementation])
    f, arrays = product()
    f(*arrays)
    assert library.made[-1].runs == 1
    monkeypatch.setattr(tuning, "_known", {})
    f, arrays = product()
    f(*arrays)
    assert library.made[-1].restored == [QUICK]


def test_a_name_that_is_no_longer_known_is_measured_anew(
    library: Timed, monkeypatch: pytest.MonkeyPatch
) -> None:
    f, arrays = product()
    f(*arrays)
    name = tuning._key(f._executor.device, library.made[0])
    monkeypatch.setattr(tuning, "_known", {name: Way("of a version before")})
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
    assert library.made[-1].restored == []


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
