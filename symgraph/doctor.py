"""What this machine offers to symgraph, what is missing, and what would make it faster.

The only file that looks for a device before one is asked for; nothing imports it but the command
line, the benchmarks and their tests.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from symgraph._version import __version__
from symgraph.backends.cpu.blas.library import find as find_blas
from symgraph.backends.cpu.compiler import unavailable
from symgraph.backends.cpu.onednn import library
from symgraph.backends.cpu.threads import thread_count
from symgraph.backends.cuda.cublaslt import library as cublaslt
from symgraph.backends.cuda.cudnn import library as cudnn
from symgraph.backends.cuda.status import install, status, version
from symgraph.backends.cuda.wheels import driver_version
from symgraph.config import config, usable_cores
from symgraph.cost.units import number_text
from symgraph.frozen import frozen
from symgraph.runtime.cache import READY, default_cache

# Linux tells these in files. A test points them elsewhere.
CPU_INFO = Path("/proc/cpuinfo")
MEMORY_INFO = Path("/proc/meminfo")
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")

# Name on the package index, module, extra that adds it, what symgraph does with it.
OPTIONAL = [
    ("safetensors", "safetensors", "checkpoints", "reads and writes checkpoints"),
    ("pillow", "PIL", "models", "decodes images"),
    ("scikit-learn", "sklearn", "models", "ships the real images of the models"),
    ("matplotlib", "matplotlib", "models", "draws curves"),
    ("rich", "rich", "models", "shows the progress of training"),
    ("sympy", "sympy", "latex", "prints formulas, proves rules in the tests"),
    ("threadpoolctl", "threadpoolctl", "dev", "tells the threads of NumPy's BLAS"),
]
CPU_FEATURES = [
    ("AVX2", ("avx2", "fma")),
    ("AVX-512", ("avx512f", "avx512bw", "avx512dq", "avx512vl")),
    ("bfloat16 products", ("avx512_bf16",)),
    ("AMX bfloat16 tiles", ("amx_tile", "amx_bf16")),
]


@frozen
class Finding:
    """One line of the report; `faster` or `fix` say what can be done about it."""

    section: str
    name: str
    value: str
    ok: bool = True
    note: str = ""
    fix: str = ""
    faster: str = ""


def diagnose() -> list[Finding]:
    """Look at everything; nothing is changed, and a device is only counted."""
    return [
        *_python(),
        *_processor(),
        *_memory(),
        *_core(),
        *_engine(),
        *_optional(),
        *_device(),
        *_settings(),
    ]


def cpu_model() -> str:
    """Name the processor, as `Intel(R) Xeon(R) Processor`."""
    return _cpu_fields().get("model name") or platform.processor() or platform.machine()


def _python() -> Iterable[Finding]:
    yield Finding("system", "symgraph", __version__, note=str(Path(__file__).parent))
    yield Finding("system", "Python", platform.python_version(), note=sys.executable)
    first = sys.platform == "linux" and platform.machine() == "x86_64"
    yield Finding(
        "system",
        "platform",
        f"{platform.system()} {platform.machine()}",
        ok=first,
        note=platform.release() if first else "only the core and the reference run here",
        fix="" if first else "use Linux on x86-64 for the fast engines",
    )


def _processor() -> Iterable[Finding]:
    yield Finding("processor", "model", cpu_model())
    yield Finding("processor", "cores", f"{usable_cores()} of {os.cpu_count()} usable")
    flags = set(_cpu_fields().get("flags", "").split())
    if not flags:
        yield Finding("processor", "features", "unknown", ok=False, note=f"no flags in {CPU_INFO}")
        return
    for name, needed in CPU_FEATURES:
        missing = [flag for flag in needed if flag not in flags]
        yield Finding(
            "processor",
            name,
            "no" if missing else "yes",
            ok=not missing or name != "AVX2",
            note=f"without {' '.join(missing)}" if missing else "",
            faster="a processor with AVX2" if missing and name == "AVX2" else "",
        )


def _cpu_fields() -> dict[str, str]:
    """Read the first processor's block of /proc/cpuinfo; empty where there is none."""
    fields: dict[str, str] = {}
    for line in _read(CPU_INFO).split("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    return fields


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:  # not Linux, or hidden in a container: the caller reports "unknown"
        return ""


def _memory() -> Iterable[Finding]:
    lines = dict(line.split(":", 1) for line in _read(MEMORY_INFO).splitlines() if ":" in line)
    if "MemTotal" in lines and "MemAvailable" in lines:
        total, free = (int(lines[name].split()[0]) / 2**20 for name in ("MemTotal", "MemAvailable"))
        yield Finding("memory", "memory", f"{total:.1f} GiB", note=f"{free:.1f} GiB available")
    else:
        yield Finding("memory", "memory", "unknown", ok=False, note=f"nothing in {MEMORY_INFO}")
    states = _read(HUGE_PAGES).split()
    state = next((each.strip("[]") for each in states if each.startswith("[")), "unknown")
    helpful = state in {"always", "madvise"}
    yield Finding(
        "memory",
        "huge pages",
        state,
        ok=helpful,
        note="large arenas use them" if helpful else "",
        faster=f"echo madvise > {HUGE_PAGES} (as root)" if state == "never" else "",
    )
    yield _temporary_folder()


def _temporary_folder() -> Finding:
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"symgraph")
            file.flush()
    except OSError as error:
        return Finding(
            "memory",
            "temporary files",
            "not writable",
            ok=False,
            note=str(error),
            fix="set TMPDIR to a folder that can be written to",
        )
    return Finding("memory", "temporary files", "writable", note=tempfile.gettempdir())


def _core() -> Iterable[Finding]:
    for package in ("numpy", "networkx", "ml_dtypes"):
        yield Finding("core", package, importlib.metadata.version(package))
    build: Any = np.show_config(mode="dicts")
    blas = build.get("Build Dependencies", {}).get("blas", {})
    threads, source = _blas_threads()
    idle = threads is not None and threads < usable_cores()
    yield Finding(
        "core",
        "BLAS of NumPy",
        f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip(),
        note=source if threads is None else f"{threads} threads ({source})",
        faster=f"let BLAS use all {usable_cores()} cores: it uses {threads}" if idle else "",
    )


def _blas_threads() -> tuple[int | None, str]:
    """Give the threads of NumPy's BLAS, if known, and how they are known."""
    if importlib.util.find_spec("threadpoolctl") is not None:
        pools = importlib.import_module("threadpoolctl").threadpool_info()
        counts = [pool["num_threads"] for pool in pools if pool["user_api"] == "blas"]
        if counts:
            return max(counts), "threadpoolctl"
    for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        if os.environ.get(variable, "").isdigit():
            return int(os.environ[variable]), variable
    return None, "threads unknown: threadpoolctl is not installed"


def _engine() -> Iterable[Finding]:
    """Look at what compiles functions for this processor."""
    problem = unavailable()
    yield _compiler()
    yield Finding(
        "cpu engine",
        "backend auto",
        "reference" if problem else "cpu",
        ok=not problem,
        note=f"functions are run node by node: {problem}" if problem else "functions are compiled",
        fix=""
        if not problem or _lacks("llvmlite")
        else "install libgomp1 (Debian), libgomp (Fedora)",
    )
    yield from _onednn()
    if not problem:
        yield from _products()
    threads, usable = thread_count(), usable_cores()
    idle = threads < usable
    yield Finding(
        "cpu engine",
        "threads",
        str(threads),
        ok=not idle,
        note="one for each usable core" if config.threads is None else config.where("threads"),
        faster=f"threads=None: compiled functions would use all {usable} cores" if idle else "",
    )
    yield from _cache()


def _lacks(module: str) -> bool:
    return importlib.util.find_spec(module) is None


def _compiler() -> Finding:
    if _lacks("llvmlite"):
        return Finding(
            "cpu engine",
            "llvmlite",
            "missing",
            ok=False,
            note="compiles functions",
            fix="pip install 'symgraph[cpu]'",
            faster="pip install 'symgraph[cpu]', which compiles functions",
        )
    try:
        llvm = importlib.import_module("llvmlite.binding")
        number = ".".join(map(str, llvm.llvm_version_info))
        target = llvm.get_host_cpu_name()
    except (ImportError, OSError, RuntimeError) as error:  # a wheel for another system
        return Finding(
            "cpu engine",
            "llvmlite",
            "does not import",
            ok=False,
            note=_one_line(error),
            fix="pip install --force-reinstall 'symgraph[cpu]'",
        )
    return Finding(
        "cpu engine", "llvmlite", _version_of("llvmlite"), note=f"LLVM {number} for {target}"
    )


def _onednn() -> Iterable[Finding]:
    found = library.status()
    if found.problem:
        off = config.onednn == library.NONE
        yield Finding(
            "cpu engine",
            "oneDNN",
            "off" if off else "missing",
            ok=False,
            note=found.problem.rstrip("."),
            fix=found.fix,
            faster=f"oneDNN, for convolutions and matrix products: {found.fix}",
        )
        return
    yield Finding("cpu engine", "oneDNN", found.version, note=found.path)
    runtime = f", {found.openmp}" if found.openmp else ""
    yield Finding(
        "cpu engine", "oneDNN uses", found.instructions, note=f"{found.threading}{runtime}"
    )


def _products() -> Iterable[Finding]:
    """Tell what multiplies matrices in compiled functions."""
    blas, onednn = find_blas(), not library.status().problem
    loops = "generated loops"
    own = loops if blas is None else f"{blas.maker} {blas.version}".strip()
    note = "no BLAS was found that can be used" if blas is None else blas.path
    yield Finding(
        "cpu engine",
        "products of float32",
        "oneDNN" if onednn else own,
        ok=onednn or blas is not None,
        note="" if onednn else note,
    )
    yield Finding(
        "cpu engine",
        "products of float64",
        own,
        ok=blas is not None,
        note=note if blas is None or blas.shares else f"{note}, on threads of its own",
    )


def _cache() -> Iterable[Finding]:
    stats = default_cache().stats()
    ready = stats.state == READY
    unsafe = not ready and config.cache != "off"
    entries = "1 entry" if stats.entries == 1 else f"{stats.entries} entries"
    yield Finding(
        "cpu engine",
        "disk cache",
        stats.state,
        ok=ready,
        note=str(stats.folder or ""),
        fix="name a folder of your own: SYMGRAPH_CACHE" if unsafe else "",
        faster="" if ready else "a disk cache: compiled code is made again in every process",
    )
    yield Finding(
        "cpu engine",
        "cached code",
        f"{entries}, {number_text(stats.bytes, 'B')}",
        note=f"this process found {stats.hits} and missed {stats.misses}",
    )


def _optional() -> Iterable[Finding]:
    for package, module, extra, purpose in OPTIONAL:
        there = importlib.util.find_spec(module) is not None
        yield Finding(
            "optional",
            package,
            _version_of(package) if there else "missing",
            ok=there,
            note=purpose,
            fix="" if there else f"pip install 'symgraph[{extra}]'",
        )


def _version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "installed"  # a copy on the path, without metadata


def _device() -> Iterable[Finding]:
    driver = _driver()
    yield driver
    if importlib.util.find_spec("cupy") is None:
        yield Finding(
            "device",
            "CuPy",
            "missing",
            ok=False,
            note="runs graphs on NVIDIA GPUs",
            fix=install() + ("" if driver.ok else ", after the driver"),
            faster=install() if driver.ok else "",
        )
        return
    found = status()
    if found.cupy is None:
        yield Finding(
            "device", "CuPy", "does not import", ok=False, note=found.problem, fix=found.fix
        )
        return
    yield Finding("device", "CuPy", str(found.cupy.__version__))
    if found.problem:
        yield Finding("device", "GPUs", "none usable", ok=False, note=found.problem, fix=found.fix)
        return
    yield from _graphics_processors(found.cupy, found.devices)
    cuda = found.cupy.cuda.runtime.runtimeGetVersion()  # libraries go with CuPy's
    for name, held, command in (
        ("cuBLASLt", cublaslt.found(), cublaslt.install(cuda)),
        ("cuDNN", cudnn.found(), cudnn.install(cuda)),
    ):
        library, problem = held
        yield Finding(
            "device",
            name,
            "missing" if library is None else "found",
            ok=library is not None,
            note=problem,
            faster="" if library is not None else command,
        )


def _driver() -> Finding:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Finding(
            "device",
            "NVIDIA driver",
            "missing",
            ok=False,
            note="libcuda.so.1 cannot be loaded",
            faster="an NVIDIA GPU with its driver, which comes with the system and not with pip",
        )
    cuda = driver_version()
    known = f", for CUDA {version(cuda)}" if cuda else ""
    return Finding("device", "NVIDIA driver", "found", note=f"libcuda.so.1{known}")


def _graphics_processors(cupy: ModuleType, count: int) -> Iterable[Finding]:
    runtime = cupy.cuda.runtime
    names = [runtime.getDeviceProperties(number) for number in range(count)]
    yield Finding("device", "CUDA runtime", version(runtime.runtimeGetVersion()))
    for number, found in enumerate(names):
        name = found["name"].decode()
        memory = found["totalGlobalMem"] / 2**30
        capability = f"{found['major']}.{found['minor']}"
        yield Finding(
            "device",
            f"GPU {number}",
            name,
            note=f"{memory:.1f} GiB, compute capability {capability}",
        )


def _settings() -> Iterable[Finding]:
    for name, value in config.values().items():
        yield Finding("settings", name, repr(value), note=config.where(name))


def _one_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def render(findings: list[Finding]) -> str:
    """Lay the report out as one aligned table, and end on what would make things faster."""
    columns = [
        max(len(text) for text in texts)
        for texts in (
            [finding.name for finding in findings],
            [finding.value for finding in findings],
        )
    ]
    lines: list[str] = []
    section = ""
    for finding in findings:
        if finding.section != section:
            section = finding.section
            lines += ["", section] if lines else [section]
        rest = "; ".join(text for text in (finding.note, finding.fix) if text)
        cells = [finding.name.ljust(columns[0]), finding.value.ljust(columns[1]), rest]
        lines.append(f"  {' ' if finding.ok else '-'} {'  '.join(cells)}".rstrip())
    faster = [finding.faster for finding in findings if finding.faster]
    lines += ["", "faster: " + ("; ".join(faster) or "nothing is missing that symgraph would use")]
    return "\n".join(lines)


def to_json(findings: list[Finding]) -> str:
    """Give the same report as one JSON object, for scripts and error reports."""
    faster = [finding.faster for finding in findings if finding.faster]
    report = {
        "symgraph": __version__,
        "findings": [asdict(finding) for finding in findings],
        "faster": faster,
    }
    return json.dumps(report, indent=2)


def add_arguments(subparsers: Any) -> None:
    """Add `doctor` to the commands of the shell."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "doctor",
        help="what is installed, what is missing, what would make it faster",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the report."""
    findings = diagnose()
    print(to_json(findings) if arguments.json else render(findings))
    return 0
