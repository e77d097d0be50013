"""The command line: commands, exit statuses, and what `doctor` tells of a machine."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import symgraph.__main__ as command_line
from symgraph import bench, doctor
from symgraph._version import __version__
from symgraph.backends.cpu.compiler import unavailable
from symgraph.backends.cpu.onednn import library
from symgraph.config import config
from symgraph.doctor import Finding
from symgraph.errors import DataError
from symgraph.runtime.cache import default_cache, key
from symgraph.runtime.calibrate import Peaks

needs_compiler = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is one")


def shell(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "symgraph", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_version() -> None:
    done = shell("--version")
    assert (done.returncode, done.stdout) == (0, f"symgraph {__version__}\n")


def test_help_lists_the_commands_that_exist() -> None:
    done = shell("--help")
    assert done.returncode == 0
    for command in ("doctor", "show", "cost", "bench", "data"):
        assert f"\n    {command} " in done.stdout


@pytest.mark.parametrize("arguments", [[], ["dcotor"], ["doctor", "--jsn"]])
def test_a_wrong_command_line_is_a_usage_error(arguments: list[str]) -> None:
    done = shell(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "usage: python -m symgraph" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_of_the_library_is_one_text_without_traceback() -> None:
    done = shell("doctor", SYMGRAPH_VERFY="1")
    assert done.returncode == 2
    assert done.stdout == ""
    first, *_, last = done.stderr.splitlines()
    assert first == "ConfigError: environment: the variable SYMGRAPH_VERFY names no setting."
    assert last == "  fix: did you mean SYMGRAPH_VERIFY?"


def fails(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (DataError("data: no.", fix="try x"), 2, "DataError: data: no.\n  fix: try x\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_exit_statuses(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    text: str,
) -> None:
    monkeypatch.setattr(doctor, "run", fails(error))
    assert command_line.main(["doctor"]) == status
    assert capsys.readouterr().err == text


def test_an_error_that_is_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "run", fails(ZeroDivisionError("bug")))
    with pytest.raises(ZeroDivisionError, match=r"^bug$"):
        command_line.main(["doctor"])


def test_a_closed_pipe_is_not_a_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "symgraph", "doctor"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_doctor_prints_an_aligned_table() -> None:
    done = shell("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    *table, blank, faster = done.stdout.splitlines()
    assert blank == ""
    assert faster.startswith("faster: ")
    sections = [line for line in table if line and not line.startswith(" ")]
    assert sections == [
        "system", "processor", "memory", "core", "cpu engine", "optional", "device", "settings",
    ]  # fmt: skip
    rows = [line for line in table if line.startswith(" ")]
    names = [finding.name for finding in doctor.diagnose()]
    second = 4 + max(map(len, names)) + 2
    assert [row[4:second].rstrip() for row in rows] == names
    assert all(row[second - 1] == " " and row[second] != " " for row in rows)


def test_doctor_as_json_says_the_same() -> None:
    done = shell("doctor", "--json", SYMGRAPH_SEED="5")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["symgraph"] == __version__
    found = {each["name"]: each for each in report["findings"]}
    assert found["Python"]["value"] == ".".join(map(str, sys.version_info[:3]))
    assert found["seed"]["value"] == "5"
    assert found["seed"]["note"] == "SYMGRAPH_SEED"
    assert {"numpy", "networkx", "ml_dtypes", "BLAS of NumPy", "CuPy", "NVIDIA driver"} <= set(
        found
    )
    assert all(
        each["fix"]
        for each in found.values()
        if each["value"] == "missing" and each["section"] == "optional"
    )


def by_name() -> dict[str, Finding]:
    return {finding.name: finding for finding in doctor.diagnose()}


CPU = "processor\t: 0\nmodel name\t: Imaginary 9000\nflags\t\t: fpu {flags}\n\nprocessor\t: 1\n"


@pytest.mark.parametrize(
    ("flags", "yes"),
    [
        ("", []),
        ("avx2", []),
        ("avx2 fma", ["AVX2"]),
        ("avx2 fma avx512f avx512bw avx512dq", ["AVX2"]),
        ("avx2 fma avx512f avx512bw avx512dq avx512vl", ["AVX2", "AVX-512"]),
        (
            "avx2 fma avx512f avx512bw avx512dq avx512vl avx512_bf16 amx_tile amx_bf16",
            ["AVX2", "AVX-512", "bfloat16 products", "AMX bfloat16 tiles"],
        ),
    ],
)
def test_features_of_the_processor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str, yes: list[str]
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(CPU.format(flags=flags))
    monkeypatch.setattr(doctor, "CPU_INFO", path)
    found = by_name()
    assert found["model"].value == "Imaginary 9000"
    assert [name for name, _ in doctor.CPU_FEATURES if found[name].value == "yes"] == yes
    assert bool(found["AVX2"].faster) == ("AVX2" not in yes)


@pytest.mark.parametrize(
    ("state", "value", "faster"),
    [
        ("always [madvise] never", "madvise", False),
        ("[always] madvise never", "always", False),
        ("always madvise [never]", "never", True),
    ],
)
def test_huge_pages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: str, value: str, faster: bool
) -> None:
    path = tmp_path / "enabled"
    path.write_text(state + "\n")
    monkeypatch.setattr(doctor, "HUGE_PAGES", path)
    found = by_name()["huge pages"]
    assert (found.value, bool(found.faster)) == (value, faster)
    assert found.ok != faster


def test_a_system_that_tells_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CPU_INFO", "MEMORY_INFO", "HUGE_PAGES"):
        monkeypatch.setattr(doctor, name, tmp_path / "absent")
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    found = by_name()
    assert [found[name].value for name in ("features", "memory", "huge pages")] == ["unknown"] * 3
    assert found["platform"].note == "only the core and the reference run here"
    assert found["temporary files"].value == "not writable"
    assert "TMPDIR" in found["temporary files"].fix
    assert "  - features" in doctor.render(list(found.values()))


def test_memory_is_in_gib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:       25165824 kB\nMemFree: 1 kB\nMemAvailable:   1572864 kB\n")
    monkeypatch.setattr(doctor, "MEMORY_INFO", path)
    found = by_name()["memory"]
    assert (found.value, found.note) == ("24.0 GiB", "1.5 GiB available")


def test_threads_of_blas_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "OPTIONAL", [])
    hide(monkeypatch, "threadpoolctl")
    monkeypatch.setattr(doctor, "usable_cores", lambda: 8)
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = by_name()["BLAS of NumPy"]
    assert found.note == "3 threads (OMP_NUM_THREADS)"
    assert found.faster == "let BLAS use all 8 cores: it uses 3"
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert by_name()["BLAS of NumPy"].note == "threads unknown: threadpoolctl is not installed"


def hide(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    real = doctor.importlib.util.find_spec
    monkeypatch.setattr(
        doctor.importlib.util,
        "find_spec",
        lambda name, package=None: None if name in modules else real(name, package),
    )


def test_a_missing_package_comes_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "PIL", "sympy", "cupy")
    found = by_name()
    assert (found["pillow"].value, found["pillow"].fix) == (
        "missing",
        "pip install 'symgraph[models]'",
    )
    assert found["sympy"].fix == "pip install 'symgraph[latex]'"
    assert found["CuPy"].fix.startswith("pip install 'symgraph[cuda]'")
    assert "decodes images; pip install" in doctor.render(list(found.values()))


CUPY = """
import types
__version__ = "13.9"
class CUDARuntimeError(RuntimeError): ...
def getDeviceCount():
    {count}
def getDeviceProperties(number):
    return dict(name=b"Imaginary GPU", totalGlobalMem=80 * 2**30, major=9, minor=0)
cuda = types.SimpleNamespace(runtime=types.SimpleNamespace(
    CUDARuntimeError=CUDARuntimeError, getDeviceCount=getDeviceCount,
    driverGetVersion=lambda: 12060,
    getDeviceProperties=getDeviceProperties, runtimeGetVersion=lambda: 12040))
"""


@pytest.mark.parametrize(
    ("source", "name", "value", "note"),
    [
        (
            CUPY.format(count="return 2"),
            "GPU 1",
            "Imaginary GPU",
            "80.0 GiB, compute capability 9.0",
        ),
        (CUPY.format(count="return 2"), "CUDA runtime", "12.4", ""),
        (
            CUPY.format(count="raise CUDARuntimeError('cudaErrorInsufficientDriver: too old')"),
            "GPUs",
            "none usable",
            "the NVIDIA driver finds no usable GPU (cudaErrorInsufficientDriver: too old)",
        ),
        (
            "raise ImportError('\\nlibcudart.so.12: cannot open\\nmore')",
            "CuPy",
            "does not import",
            "CuPy is installed but cannot be loaded (libcudart.so.12: cannot open)",
        ),
    ],
)
def test_devices(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, name: str, value: str, note: str
) -> None:
    (tmp_path / "cupy.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    found = {finding.name: finding for finding in doctor._device()}
    sys.modules.pop("cupy", None)  # not by monkeypatch, which would put it back
    assert (found[name].value, found[name].note) == (value, note)


def test_a_driver_without_cupy_would_be_faster_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "cupy")
    monkeypatch.setattr(doctor.ctypes, "CDLL", lambda name: object())
    found = {finding.name: finding for finding in doctor._device()}
    assert found["NVIDIA driver"].value == "found"
    assert found["CuPy"].faster == "pip install 'symgraph[cuda]'"


def engine() -> dict[str, Finding]:
    return {finding.name: finding for finding in doctor._engine()}


@needs_compiler
def test_the_engine_for_the_cpu() -> None:
    found = engine()
    assert found["llvmlite"].note.startswith("LLVM ")
    assert " for " in found["llvmlite"].note
    assert (found["backend auto"].value, found["backend auto"].ok) == ("cpu", True)
    status = library.status()
    if status.problem:
        assert found["oneDNN"].value == "missing"
        assert found["oneDNN"].fix == status.fix
        assert status.fix in found["oneDNN"].faster
    else:
        assert (found["oneDNN"].value, found["oneDNN"].note) == (status.version, status.path)
        assert found["oneDNN uses"].value == status.instructions
        assert status.threading in found["oneDNN uses"].note


def test_without_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "llvmlite")
    monkeypatch.setattr(doctor, "unavailable", lambda: "llvmlite is not installed")
    found = engine()
    assert (found["llvmlite"].value, found["llvmlite"].fix) == (
        "missing",
        "pip install 'symgraph[cpu]'",
    )
    assert "pip install 'symgraph[cpu]'" in found["llvmlite"].faster
    assert found["backend auto"].value == "reference"
    assert found["backend auto"].note.endswith("llvmlite is not installed")


def test_without_the_threads_of_openmp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "unavailable", lambda: "the OpenMP runtime is not installed")
    monkeypatch.setattr(doctor, "_lacks", lambda module: False)
    assert "libgomp" in engine()["backend auto"].fix


def test_a_broken_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "llvmlite").mkdir()
    (tmp_path / "llvmlite" / "__init__.py").write_text("raise OSError('\\nno such library')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "llvmlite"]:
        monkeypatch.delitem(sys.modules, name)
    found = doctor._compiler()
    assert (found.value, found.note) == ("does not import", "no such library")


def test_onednn_that_is_switched_off() -> None:
    with config(onednn="none"):
        found = engine()
    assert found["oneDNN"].value == "off"
    assert "config.onednn" in found["oneDNN"].fix
    assert found["oneDNN"].faster
    assert "oneDNN uses" not in found


def test_fewer_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine()["threads"].note == "one for each usable core"
    monkeypatch.setattr(doctor, "usable_cores", lambda: 8)
    with config(threads=1):
        found = engine()["threads"]
    assert (found.value, found.ok, found.note) == ("1", False, "with config()")
    assert found.faster == "threads=None: compiled functions would use all 8 cores"


def test_the_disk_cache(tmp_path: Path) -> None:
    with config(cache=str(tmp_path / "cache")):
        default_cache().put(key("one"), b"12345")
        assert default_cache().get(key("one")) == b"12345"
        assert default_cache().get(key("two")) is None
        found = engine()
    assert (found["disk cache"].value, found["disk cache"].note) == (
        "ready",
        str(tmp_path / "cache"),
    )
    assert found["cached code"].value == "1 entry, 89 bytes"
    assert found["cached code"].note == "this process found 1 and missed 1"


def test_a_disk_cache_that_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with config(cache=str(tmp_path / "open")):
        found = engine()["disk cache"]
    assert found.value.startswith("not used: others may write to it")
    assert (found.ok, found.fix) == (False, "name a folder of your own: SYMGRAPH_CACHE")
    with config(cache="off"):
        assert engine()["disk cache"].value == "off: config.cache"


def test_nothing_missing_is_said_too() -> None:
    text = doctor.render([Finding("system", "a", "1"), Finding("core", "long", "22", note="n")])
    assert text == (
        "system\n    a     1\n\ncore\n    long  22  n\n\n"
        "faster: nothing is missing that symgraph would use"
    )


def test_the_report_shows_settings_of_this_moment() -> None:
    with config(seed=41):
        found = by_name()["seed"]
    assert (found.value, found.note) == ("41", "with config()")


ROWS = [
    ("products, float32", "FLOP/s"),
    ("products, bfloat16", "FLOP/s"),
    ("copy", "B/s"),
    ("elementwise function", "B/s"),
    ("call", "s"),
    ("compile a training step", "s"),
    ("training step", "s"),
]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make measurements that say nothing but are short."""
    monkeypatch.setattr(bench, "NUMBERS", 100)
    monkeypatch.setattr(bench, "CALLS", 2)
    monkeypatch.setattr(bench, "peaks", lambda anew: Peaks(1.5e11, 1.5e12, 2e10, {"copy": "x"}))
    monkeypatch.setattr(bench, "best", lambda run: (run(), 0.002)[1])


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_compiler)])
def test_bench_prints_a_table(backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    with config(backend=backend):
        assert command_line.main(["bench"]) == 0
    machine, *lines = capsys.readouterr().out.splitlines()
    assert machine.startswith(doctor.cpu_model())
    assert [line.split("  ")[0] for line in lines] == [name for name, _ in ROWS]
    assert "150 GFLOP/s" in lines[0]
    assert "1.5 TFLOP/s" in lines[1]
    assert "20 GB/s" in lines[2]
    assert f"on {backend}" in lines[3]
    assert "1 ms" in lines[4]
    assert "without the disk cache" in lines[5]


@pytest.mark.usefixtures("short")
def test_bench_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["bench", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["unit"]) for row in report["rows"]] == ROWS
    assert all(row["value"] > 0 for row in report["rows"])
    assert report["symgraph"] == __version__
    assert set(report["machine"]) == {"cpu", "threads", "system", "python"}


def test_bench_in_the_shell() -> None:
    done = shell("bench", SYMGRAPH_CACHE="off")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1 + len(ROWS)
