"""What the machine can do: measured once, kept on the disk, and not believed when it is damaged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from symgraph.backends.cpu.compiler import unavailable
from symgraph.backends.cpu.onednn import library
from symgraph.config import config
from symgraph.runtime import calibrate
from symgraph.runtime.cache import default_cache, key
from symgraph.runtime.calibrate import Peaks, copying, measure, peaks

needs_compiler = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is one")

SOME = Peaks(1.5e11, 1.5e12, 2e10, {"float32": "x", "bfloat16": "y", "bandwidth": "z"})


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[int]]:
    """Count measurements, which give `SOME`; nothing is known and the cache is empty."""
    calls: list[int] = []
    monkeypatch.setattr(calibrate, "_known", {})
    monkeypatch.setattr(calibrate, "measure", lambda: calls.append(1) or SOME)
    with config(cache=str(tmp_path / "cache")):
        yield calls


def test_a_measurement_is_plausible() -> None:
    found = measure()
    for number in (found.float32, found.bfloat16):
        assert 1e8 < number < 1e16
    assert 1e8 < found.bandwidth < 1e14
    assert set(found.how) == {"float32", "bfloat16", "bandwidth"}
    if not library.status().problem:
        assert found.how["float32"].startswith("oneDNN ")


def test_without_library_and_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "unavailable", lambda: "llvmlite is not installed")
    monkeypatch.setattr(calibrate, "SECONDS", 0.0)
    monkeypatch.setattr(calibrate, "LARGEST_SIDE", calibrate.SIDE)
    with config(onednn="none", memory_limit="1 MB"):
        found = measure()
    assert found.bfloat16 == found.float32 > 0
    assert found.how["float32"].startswith("NumPy")
    assert (found.how["bfloat16"], found.how["bandwidth"]) == ("as float32", "NumPy")


def test_the_roofline() -> None:
    assert SOME.least(int(1.5e11), 0) == 1.0
    assert SOME.least(int(1.5e11), 0, "bfloat16") == 0.1
    assert SOME.least(int(1.5e11), 0, "float64") == 2.0
    assert SOME.least(10, int(2e10)) == 1.0


def test_it_is_measured_once(counted: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    assert peaks() == SOME
    assert peaks() is peaks()
    assert len(counted) == 1
    monkeypatch.setattr(calibrate, "_known", {})  # as in another process
    assert peaks() == SOME
    assert len(counted) == 1
    assert peaks(anew=True) == SOME
    assert len(counted) == 2


def test_the_best_of_several_measurements_counts(
    counted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks()
    how = {"float32": "a", "bfloat16": "b", "bandwidth": "c"}
    monkeypatch.setattr(calibrate, "measure", lambda: Peaks(1e11, 2e12, 1e10, how))
    found = peaks(anew=True)
    assert (found.float32, found.bfloat16, found.bandwidth) == (1.5e11, 2e12, 2e10)
    assert found.how == {"float32": "x", "bfloat16": "b", "bandwidth": "z"}
    assert peaks() == found
    monkeypatch.setattr(calibrate, "_known", {})
    assert peaks() == found


def test_other_machines_and_versions_have_peaks_of_their_own(
    counted: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    peaks()
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: Imaginary 9000\nmodel name\t: another\n")
    monkeypatch.setattr(calibrate, "CPU_INFO", info)
    assert calibrate.identity()[0] == "Imaginary 9000"
    peaks()
    assert len(counted) == 2
    monkeypatch.setattr(calibrate, "usable_cores", lambda: 77)
    peaks()
    monkeypatch.setattr(np, "__version__", "9.9")
    peaks()
    with config(onednn="none"):
        peaks()
    assert len(counted) == 5
    monkeypatch.setattr(calibrate, "CPU_INFO", tmp_path / "absent")
    peaks()
    assert len(counted) == 6


def damaged() -> dict[str, bytes]:
    whole = asdict(SOME)
    return {
        "no json": b"{",
        "not utf-8": b"\xff\xfe{}",
        "deep": b"[" * 4000,
        "long": json.dumps({**whole, "how": {"float32": "x" * 5000}}).encode(),
        "a list": b"[1, 2]",
        "missing": json.dumps({**whole, "how": {}, "bandwidth": None}).encode(),
        "surplus": json.dumps({**whole, "more": 1.0}).encode(),
        "negative": json.dumps({**whole, "float32": -1.0}).encode(),
        "zero": json.dumps({**whole, "bandwidth": 0.0}).encode(),
        "NaN": json.dumps({**whole, "float32": float("nan")}).encode(),
        "infinite": json.dumps({**whole, "float32": float("inf")}).encode(),
        "an int": json.dumps({**whole, "float32": 1}).encode(),
        "a bool": json.dumps({**whole, "float32": True}).encode(),
        "words": json.dumps({**whole, "how": {"float32": 3}}).encode(),
        "no words": json.dumps({**whole, "how": "x"}).encode(),
    }


@pytest.mark.parametrize("kind", list(damaged()))
def test_what_is_not_right_is_measured_again(kind: str, counted: list[int]) -> None:
    name = key(calibrate.FORMAT, *calibrate.identity())
    default_cache().put(name, damaged()[kind])
    assert peaks() == SOME
    assert len(counted) == 1


def test_without_a_cache_it_is_kept_in_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "_known", {})
    monkeypatch.setattr(calibrate, "measure", lambda: Peaks(1e9, 1e9, 1e9))
    assert peaks() is peaks()


@needs_compiler
@pytest.mark.parametrize("count", [1, 17, 4096, 100_003])
def test_the_generated_copy_copies(count: int) -> None:
    source = np.random.default_rng(count).standard_normal(count, np.float32)
    target = np.zeros(count + 1, np.float32)
    run: Any = copying(source.ctypes.data, target.ctypes.data, count)
    run()
    np.testing.assert_array_equal(target[:count], source)
    assert target[count] == 0
