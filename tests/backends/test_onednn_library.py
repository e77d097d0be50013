"""Finding, loading and refusing oneDNN, and the OpenMP runtime that it computes with."""

from __future__ import annotations

import importlib
import platform
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from symgraph.backends.cpu.onednn import library, openmp
from symgraph.backends.cpu.onednn.library import Candidate, Library
from symgraph.config import config
from symgraph.errors import BackendError, SymgraphError
from tests.backends.onednn_memory import need_onednn

need_onednn()


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test search anew; what is loaded stays loaded."""
    monkeypatch.setattr(library, "_CHOSEN", {})
    monkeypatch.setattr(library, "_LOADED", dict(library._LOADED))


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment in which nothing is installed; gives the folder of its libraries."""
    folder = tmp_path / "lib"
    folder.mkdir()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(library.sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(library.site, "ENABLE_USER_SITE", False)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    monkeypatch.setattr(library, "NAME", "libdnnl-of-nobody.so.3")
    return folder


def installed() -> Path:
    return Path(library.load().path)


def fake(**version: int) -> SimpleNamespace:
    """A library of this version, as far as it is looked at before it is used."""
    found = {"major": 3, "minor": 2, "patch": 0, "cpu_runtime": 2, "gpu_runtime": 0, **version}
    engines = found.pop("engines", 1)
    return SimpleNamespace(
        dnnl_version=lambda: SimpleNamespace(**found), dnnl_engine_get_count=lambda kind: engines
    )


# -- search ---------------------------------------------------------------------------------------


def test_the_search_goes_from_near_to_far(
    empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conda = tmp_path / "conda"
    (conda / "lib").mkdir(parents=True)
    (conda / "lib" / library.NAME).touch()
    (empty / (library.NAME + ".2")).touch()
    monkeypatch.setenv("CONDA_PREFIX", str(conda))
    near = Candidate(str(empty / library.NAME) + ".2", "this environment")
    far = Candidate(str(conda / "lib" / library.NAME), "conda")
    system = Candidate(library.NAME, "the system")
    assert library.find() == [near, far, system]
    (empty / library.NAME).touch()
    assert library.find()[0].path == str(empty / library.NAME)


def test_a_setting_stands_alone() -> None:
    with config(onednn="/opt/libdnnl.so.3"):
        assert library.find() == [Candidate("/opt/libdnnl.so.3", "config.onednn")]
    with config(onednn="none"):
        assert library.find() == []


def test_every_caller_gets_the_same_library() -> None:
    found: list[Library] = []
    threads = [threading.Thread(target=lambda: found.append(library.load())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1
    with config(onednn=str(installed())):
        assert library.load() is found[0]


def test_what_a_report_says_of_it() -> None:
    status = library.status()
    made = library.load()
    assert status.problem == status.fix == ""
    assert Path(status.path).is_file()
    assert status.version.startswith("3.")
    assert status.version == made.version
    assert status.threading in ("OpenMP", "TBB", "sequential", "threadpool")
    assert status.instructions == made.instructions != ""
    assert bool(status.openmp) == (status.threading == "OpenMP")


def test_a_broken_candidate_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = str(installed())
    broken = tmp_path / library.NAME
    broken.write_bytes(b"nonsense")
    candidates = [Candidate(str(broken), "this environment"), Candidate(good, "conda")]
    monkeypatch.setattr(library, "find", lambda: candidates)
    assert library.load().path == good


# -- absence --------------------------------------------------------------------------------------


def refusal(path: Path | str) -> str:
    with config(onednn=str(path)), pytest.raises(BackendError) as caught:
        library.load()
    assert isinstance(caught.value, SymgraphError | RuntimeError)
    assert "pip install cffi onednn" in caught.value.fix
    return caught.value.message


def test_nothing_installed(empty: Path) -> None:
    with pytest.raises(BackendError) as caught:
        library.load()
    assert str(caught.value).splitlines() == [
        "oneDNN: no library can be used.",
        "  libdnnl-of-nobody.so.3 (the system) is not installed.",
        f"  fix: {library.INSTALL}",
    ]
    status = library.status()
    assert status.path == status.version == ""
    assert status.problem == "libdnnl-of-nobody.so.3 (the system) is not installed."
    assert status.fix == library.INSTALL


def test_every_candidate_has_its_reason(empty: Path) -> None:
    (empty / library.NAME).write_bytes(b"nonsense")
    with pytest.raises(BackendError) as caught:
        library.load()
    assert [line.split(") ")[1][:19] for line in caught.value.details] == [
        "cannot be loaded: f",
        "is not installed.",
    ]


def test_switched_off() -> None:
    with config(onednn="none"):
        assert library.status().problem == "oneDNN: it is switched off."
        with pytest.raises(BackendError, match="switched off"):
            library.load()


def test_no_file(tmp_path: Path) -> None:
    path = tmp_path / "libdnnl.so.3"
    assert refusal(path) == f"oneDNN: {path} (config.onednn) is not a file."
    assert refusal(tmp_path) == f"oneDNN: {tmp_path} (config.onednn) is not a file."


@pytest.mark.parametrize("content", [b"", b"not a library at all, but long enough" * 9])
def test_not_a_library(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "libdnnl.so.3"
    path.write_bytes(content)
    assert refusal(path).startswith(f"oneDNN: {path} (config.onednn) cannot be loaded: ")
    assert refusal(path).count(str(path)) == 1


def test_another_library() -> None:
    cffi = importlib.import_module("_cffi_backend")
    path = cffi.__file__
    expected = (
        f"oneDNN: {path} (config.onednn) is a library, but not oneDNN: it has no dnnl_version."
    )
    assert refusal(path) == expected


@pytest.mark.skipif(platform.system() != "Linux", reason="rewrites an ELF file")
def test_a_missing_dependency(tmp_path: Path) -> None:
    """A copy of the library that depends on a libgomp which is nowhere."""
    content = installed().read_bytes()
    if b"\0libgomp.so.1\0" not in content:
        pytest.skip("this oneDNN is built without libgomp")
    path = tmp_path / "libdnnl.so.3"
    path.write_bytes(content.replace(b"\0libgomp.so.1\0", b"\0libgomp.so.7\0"))
    assert refusal(path) == (
        f"oneDNN: {path} (config.onednn) needs libgomp.so.7, which is not installed"
        " (libgomp1 of Debian, libgomp of Fedora)."
    )


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ({"major": 2, "minor": 7, "patch": 1}, "is oneDNN 2.7.1, version 3 is needed"),
        ({"major": 4}, "is oneDNN 4.2.0, version 3 is needed"),
        ({"cpu_runtime": 0}, "is built for GPUs alone, without a CPU engine"),
        ({"cpu_runtime": 512, "engines": 0}, "is a SYCL build, and finds no CPU engine"),
        ({"cpu_runtime": 512}, "is a SYCL build, which computes on threads of its own"),
    ],
)
def test_a_build_that_cannot_be_used(version: dict[str, int], reason: str) -> None:
    with pytest.raises(library._UnusableError, match=reason):
        library._check_build(fake(**version))


@pytest.mark.parametrize("runtime", [1, 2, 4, 8])
def test_builds_that_can_be_used(runtime: int) -> None:
    library._check_build(fake(cpu_runtime=runtime))


def test_without_cffi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cffi", None)
    with pytest.raises(BackendError, match="cffi, through which it is called, is not installed"):
        library.load()
    assert "pip install cffi" in library.status().fix


def test_importing_needs_neither() -> None:
    """The layer is importable everywhere; cffi and the library come with the first use."""
    code = """
import sys
sys.modules["cffi"] = None
from symgraph.backends.cpu.onednn import attributes, calls, descriptors, library, primitives
print(library.status().problem)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cffi" in done.stdout


# -- one pool -------------------------------------------------------------------------------------

needs_openmp = pytest.mark.skipif(
    library.status().threading != "OpenMP", reason="this oneDNN is built without OpenMP"
)


def runtime() -> openmp.OpenMP:
    found = library.load().openmp
    assert found is not None
    return found


@needs_openmp
def test_threads_are_set_for_the_thread_that_asks() -> None:
    pool = runtime()
    before = pool.threads()
    others: list[int] = []
    try:
        pool.set_threads(3)
        assert pool.threads() == 3
        thread = threading.Thread(target=lambda: others.append(pool.threads()))
        thread.start()
        thread.join()
    finally:
        pool.set_threads(before)
    assert pool.threads() == before
    assert others != [3]


@needs_openmp
def test_functions_come_from_the_runtime_of_the_library() -> None:
    pool = runtime()
    for function in ("GOMP_parallel", "omp_get_max_threads"):
        assert openmp.file_of(pool.address(function)) == pool.path
    assert "omp" in Path(pool.path).name
    with pytest.raises(AttributeError, match="has no omp_make_coffee"):
        pool.address("omp_make_coffee")


@needs_openmp
@pytest.mark.parametrize("first", ["sklearn", "onednn"])
def test_a_second_copy_of_the_runtime_is_not_taken(first: str) -> None:
    """scikit-learn brings a libgomp of its own; oneDNN's is the one that is asked, in any order."""
    pytest.importorskip("sklearn")
    code = f"""
def sklearn():
    import sklearn.cluster
def onednn():
    from symgraph.backends.cpu.onednn import library
    return library.load().openmp
order = ["sklearn", "onednn"] if {first!r} == "sklearn" else ["onednn", "sklearn"]
for name in order:
    globals()[name]()
print(onednn().path)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "scikit_learn" not in done.stdout
    assert done.stdout.strip() == runtime().path


def test_the_file_of_nothing_is_not_told() -> None:
    assert openmp.file_of(0) == ""


def test_copies_of_one_file_are_two_libraries(tmp_path: Path) -> None:
    """Descriptors of one are not given to primitives of the other."""
    descriptors = importlib.import_module("symgraph.backends.cpu.onednn.descriptors")
    primitives = importlib.import_module("symgraph.backends.cpu.onednn.primitives")
    path = tmp_path / "libdnnl.so.3"
    shutil.copyfile(installed(), path)
    ours = descriptors.Descriptor.dense((2, 3))
    with config(onednn=path):
        theirs = descriptors.Descriptor.dense((2, 3))
    assert theirs.library.path == str(path)
    assert theirs != ours
    assert descriptors.Descriptor.from_key(theirs.key) == ours
    with pytest.raises(BackendError, match="made by different libraries"):
        primitives.reorder(ours, theirs)
