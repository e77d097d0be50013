"""Which BLAS is found among what a process has in memory, and what `doctor` says of it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from symgraph import doctor
from symgraph.backends.cpu.blas import library
from symgraph.backends.cpu.blas.library import Blas, candidates
from symgraph.backends.cpu.compiler import unavailable
from symgraph.backends.cpu.onednn import library as onednn
from symgraph.config import config

FOUND = library.find()

pytestmark = pytest.mark.skipif(FOUND is None, reason="no BLAS in this process")


# -- finding ---------------------------------------------------------------------------------------

MAPS = """\
55d0-55d1 r--p 00000000 fe:00 12 /usr/bin/python3.11
7f00-7f01 r-xp 00000000 fe:00 13 /usr/lib/libopenblas.so.0
7f01-7f02 r--p 00000000 fe:00 14 /opt/torch/lib/libtorch_cpu.so
7f01-7f02 r--p 00000000 fe:00 14 /opt/with a space/numpy/_core/_multiarray_umath.cpython-311.so
7f02-7f03 r-xp 00001000 fe:00 14 /opt/with a space/numpy/_core/_multiarray_umath.cpython-311.so
7f03-7f04 rw-p 00000000 00:00 0
7f04-7f05 r--p 00000000 fe:00 15 /opt/numpy.libs/libscipy_openblas64_-32a4b2a6.so
7f04-7f05 r--p 00000000 fe:00 15 /opt/mkl/libmkl_rt.so.2
7f04-7f05 r--p 00000000 fe:00 15 /opt/blas/notes.txt
7f05-7f06 rw-p 00000000 00:00 0 [heap]
"""


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Blas | None]:
    """Give what searches in given maps."""

    def find(maps: str) -> Blas | None:
        path = tmp_path / "maps"
        path.write_text(maps)
        monkeypatch.setattr(library, "MAPS", path)
        return library.find.__wrapped__()

    return find


def test_the_blas_of_numpy_is_asked_first() -> None:
    assert candidates(MAPS.splitlines()) == [
        "/opt/with a space/numpy/_core/_multiarray_umath.cpython-311.so",
        "/usr/lib/libopenblas.so.0",
        "/opt/numpy.libs/libscipy_openblas64_-32a4b2a6.so",
        "/opt/mkl/libmkl_rt.so.2",
    ]
    assert candidates([]) == []


def test_nothing_is_loaded_to_be_asked(search: Callable[[str], Blas | None]) -> None:
    assert search(MAPS) is None


def test_the_blas_is_found_through_numpy_or_by_itself(
    search: Callable[[str], Blas | None],
) -> None:
    assert FOUND is not None
    lines = Path("/proc/self/maps").read_text().splitlines()
    for part in (library.NUMPY, Path(FOUND.path).name):
        found = search("\n".join(line for line in lines if part in line))
        assert found is not None
        assert (found.path, found.products) == (FOUND.path, FOUND.products)
    assert search("\n".join(line for line in lines if "libm.so" in line)) is None


def test_without_maps_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(library, "MAPS", tmp_path / "none")
    assert library.find.__wrapped__() is None


class Fake:
    """A library with some symbols, as ctypes gives them."""

    def __init__(self, real: Any, names: dict[str, str]) -> None:
        for name, own in names.items():
            setattr(self, name, getattr(real, own))


@pytest.fixture
def real() -> Any:
    assert FOUND is not None
    loaded = ctypes.CDLL(FOUND.path)
    if not hasattr(loaded, "scipy_cblas_sgemm64_"):
        pytest.skip("the symbols are spelled otherwise here")
    return loaded


@pytest.mark.parametrize(("prefix", "suffix"), library.SPELLINGS)
def test_every_spelling(prefix: str, suffix: str, real: Any) -> None:
    wanted = ["cblas_sgemm", "cblas_dgemm", "openblas_get_config", "openblas_get_parallel"]
    wanted += ["openblas_get_num_threads", "openblas_set_num_threads"]
    names = {f"{prefix}{name}{suffix}": f"scipy_{name}64_" for name in wanted}
    found = library._spelled("here", Fake(real, names), prefix, suffix)
    assert found is not None
    assert FOUND is not None
    assert (found.maker, found.version) == ("OpenBLAS", FOUND.version)
    assert (found.products, found.limits) == (FOUND.products, FOUND.limits)
    for missing in names:
        rest = {name: own for name, own in names.items() if name != missing}
        poorer = library._spelled("here", Fake(real, rest), prefix, suffix)
        if "cblas" in missing or "config" in missing:
            assert poorer is None, "a maker must be known"
        else:
            assert poorer is not None
            assert not poorer.shares


def test_other_makers(real: Any) -> None:
    names = {"cblas_sgemm": "scipy_cblas_sgemm64_", "cblas_dgemm": "scipy_cblas_dgemm64_"}
    names["MKL_Get_Max_Threads"] = "scipy_openblas_get_num_threads64_"
    found = library._spelled("here", Fake(real, names), "", "")
    assert found is not None
    assert (found.maker, found.version, found.shares) == ("MKL", "", False)


def test_a_blas_that_computes_something_else_is_refused() -> None:
    assert FOUND is not None
    assert library._passes(FOUND, "float64")

    def lazy(*numbers: Any) -> None:
        """Multiply nothing: the result stays what it was."""

    number, size = ctypes.c_double, ctypes.c_int64
    kind = ctypes.CFUNCTYPE(
        None, *[ctypes.c_int] * 3, *[size] * 3, number, ctypes.c_void_p, size, ctypes.c_void_p,
        size, number, ctypes.c_void_p, size,
    )  # fmt: skip
    broken = kind(lazy)
    address = ctypes.cast(broken, ctypes.c_void_p).value or 0
    assert not library._passes(Blas("", "", "", {"float64": address}), "float64")


# -- what doctor says ------------------------------------------------------------------------------


def products() -> dict[str, doctor.Finding]:
    return {one.name: one for one in doctor._engine() if one.name.startswith("products of")}


@pytest.mark.skipif(bool(unavailable()), reason="no compiler")
def test_doctor_tells_what_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    assert FOUND is not None
    own = f"{FOUND.maker} {FOUND.version}".strip()
    with config(onednn="none"):
        found = products()
        assert [one.value for one in found.values()] == [own, own]
        assert all(FOUND.path in one.note for one in found.values())
        monkeypatch.setattr(doctor, "find_blas", lambda: None)
        found = products()
        assert {one.value for one in found.values()} == {"generated loops"}
        assert not any(one.ok for one in found.values())
    if not onednn.status().problem:
        assert products()["products of float32"].value == "oneDNN"
