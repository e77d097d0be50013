"""What running CUDA kernels on a CPU finds, and that NVCC takes the same source."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.graph.graph import Graph
from symgraph.graph.interpret import interpret
from symgraph.graph.node import Value
from symgraph.lower.cuda.kernel import Kernel
from symgraph.lower.cuda.module import OPTIONS, module
from symgraph.lower.plan import Plan
from tests.lower.cuda_host import COMPILER, Host, planned, run
from tests.lower.cuda_steps import B, step
from tests.tolerances import assert_close

SPILLED = 32  # bytes
ROOT = Path(__file__).resolve().parents[2]
NVCC = shutil.which("nvcc")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")


def softmax(length: int = 100) -> tuple[Value, Plan, dict[Value, Any], dict[Any, int]]:
    """Give rows of softmax, more than there are blocks."""
    rows = sg.dim("cuda_rows")
    x = sg.tensor("x", (rows, length))
    env = {rows: 40}
    array = np.random.default_rng(0).standard_normal((40, length)).astype(np.float32)
    return x, planned(Graph([x], [sg.softmax(x, axis=-1)]), env), {x: array}, env


def damaged(plan: Plan, pattern: str, new: str) -> None:
    """Change what fits a pattern in the first kernel that has it."""
    for place, kernel in enumerate(plan.kernels):
        assert isinstance(kernel, Kernel)
        text = re.sub(pattern, new, kernel.text)
        if text != kernel.text:
            plan.kernels[place] = replace(kernel, text=text)
            return
    raise AssertionError(f"no kernel has {pattern}")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_order_of_blocks_and_threads_does_not_matter(seed: int, tmp_path: Path) -> None:
    x, plan, feeds, env = softmax()
    (found,) = run(plan, Host(plan.kernels, tmp_path), feeds, env, seed)
    (again,) = run(plan, Host(plan.kernels, tmp_path), feeds, env, seed + 10)
    assert found.tobytes() == again.tobytes()
    assert_close(found, interpret([sg.softmax(x, axis=-1)], feeds, env)[0], "norm")


def test_a_missing_barrier_is_found(tmp_path: Path) -> None:
    """The warps of a block meet after each has written its part; without it sums are wrong."""
    x, plan, feeds, env = softmax(800)
    damaged(plan, r"(\[threadIdx.x / 32\] = \w+;)\n( *)__syncthreads\(\);", r"\1")
    host = Host(plan.kernels, tmp_path)
    (wanted,) = interpret([sg.softmax(x, axis=-1)], feeds, env)
    wrong = [not np.allclose(run(plan, host, feeds, env, seed)[0], wanted) for seed in range(4)]
    assert all(wrong)


def columns() -> tuple[Value, Plan, dict[Value, Any]]:
    """Give softmax down the columns: every thread has one, and keeps what it has computed."""
    x = sg.tensor("x", (40, 600))
    array = np.random.default_rng(0).standard_normal((40, 600)).astype(np.float32)
    return x, planned(Graph([x], [sg.softmax(x, axis=0)]), {}), {x: array}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_a_thread_keeps_is_its_own(seed: int, tmp_path: Path) -> None:
    x, plan, feeds = columns()
    assert any(" kept" in one.text and "__shared__" not in one.text for one in plan.kernels)
    (found,) = run(plan, Host(plan.kernels, tmp_path), feeds, {}, seed)
    assert_close(found, interpret([sg.softmax(x, axis=0)], feeds, {})[0], "norm")


def test_memory_that_threads_share_by_mistake_is_found(tmp_path: Path) -> None:
    x, plan, feeds = columns()
    damaged(plan, r"\n( *)float (kept\d+)\[", r"\n\1__shared__ float \2[")
    damaged(plan, r"\n  }\n}\n$", r"\n  __syncthreads();\n  }\n}\n")  # or they run one by one
    host = Host(plan.kernels, tmp_path)
    (wanted,) = interpret([sg.softmax(x, axis=0)], feeds, {})
    wrong = [not np.allclose(run(plan, host, feeds, {}, seed)[0], wanted) for seed in range(4)]
    assert all(wrong)


# sums down columns: few of them, many rows
ROWS = [
    pytest.param(lambda x: x.sum(axis=(0, 1)), id="sum"),
    pytest.param(lambda x: x.max(axis=(0, 1)), id="max"),
    pytest.param(lambda x: sg.argmax(x.reshape((-1, x.shape[2])), axis=0), id="argmax"),
    pytest.param(lambda x: x.var(axis=(0, 1)), id="var"),
    pytest.param(lambda x: x - x.mean(axis=(0, 1)), id="centred"),
]


@pytest.mark.parametrize("build", ROWS)
@pytest.mark.parametrize(
    "channels", [1, 33, *(pytest.param(count, marks=pytest.mark.full) for count in (3, 16, 100))]
)
def test_a_column_has_several_threads(build: Any, channels: int, tmp_path: Path) -> None:
    x = sg.tensor("x", (sg.dim("columns_rows"), 50, channels))
    env = {x.shape[0]: 9}
    array = np.random.default_rng(channels).standard_normal((9, 50, channels)).astype(np.float32)
    value = build(x)
    plan = planned(Graph([x], [value]), env)
    if channels > 1:
        assert any("threadIdx.x /" in one.text for one in plan.kernels)
        assert max(one.threads for one in plan.kernels) == 256
    host = Host(plan.kernels, tmp_path)
    for seed in range(2):
        (found,) = run(plan, host, {x: array}, env, seed)
        assert_close(found, interpret([value], {x: array}, env)[0], "norm")


STRAY = """
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from tests.lower.test_cuda_host import damaged, softmax
from tests.lower.cuda_host import Host, run

x, plan, feeds, env = softmax(800)
damaged(plan, *sys.argv[3:5])
run(plan, Host(plan.kernels, Path(sys.argv[2]), *sys.argv[5:]), feeds, env)
"""


def stray(folder: Path, pattern: str, new: str, *flags: str, **env: str) -> str:
    """Run damaged kernels in a process of their own, which must die; give what it says."""
    script = folder / "stray.py"
    script.write_text(STRAY)
    command = [sys.executable, str(script), str(ROOT), str(folder), pattern, new, *flags]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, **env}
    )
    assert done.returncode != 0, done.stdout
    return done.stderr


def test_a_barrier_that_only_some_threads_reach_is_found(tmp_path: Path) -> None:
    said = stray(tmp_path, r"__syncthreads\(\);", "if (threadIdx.x == 0) __syncthreads();")
    assert "is not reached by every thread" in said  # there, or in the next shuffle


def test_a_shuffle_that_only_some_threads_reach_is_found(tmp_path: Path) -> None:
    only_some = r"= threadIdx.x ? shift_down(\1, \2) : \1;"
    said = stray(tmp_path, r"= shift_down\((\w+), (\w+)\);", only_some)
    assert "a shuffle is not reached by every thread" in said


SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")


def sanitizer() -> str:
    """Give the library that must be loaded before Python for the sanitizers."""
    assert COMPILER is not None
    asked = subprocess.run(
        [COMPILER, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    found = asked.stdout.strip()
    return found if Path(found).is_file() else ""


@pytest.mark.skipif(COMPILER is not None and not sanitizer(), reason="g++ has no address sanitizer")
def test_an_index_one_too_far_is_found(tmp_path: Path) -> None:
    """Every memory of a kernel is a piece of its own, so that the sanitizer knows its end."""
    environment = {"LD_PRELOAD": sanitizer(), "ASAN_OPTIONS": "detect_leaks=0"}
    said = stray(tmp_path, r"\(b0 \+ \(", "(b0 + (4 + ", *SANITIZERS, **environment)
    assert "AddressSanitizer: heap-buffer-overflow" in said


# -- models ----------------------------------------------------------------------------------------


@pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")
@pytest.mark.parametrize(
    "architecture",
    ["sm_90", *(pytest.param(each, marks=pytest.mark.full) for each in ("sm_80", "sm_100"))],
)
def test_the_same_source_compiles_for_devices(architecture: str, tmp_path: Path) -> None:
    plan = planned(step("alexnet"), {B: 4})
    host = Host(plan.kernels, tmp_path)
    source = module(plan.kernels, [f"k{n}" for n in range(len(plan.kernels))])
    assert source == host.source
    file = tmp_path / "kernels.cu"
    file.write_text(source)
    assert NVCC is not None
    command = [NVCC, "-cubin", f"-arch={architecture}", "-Xptxas", "-v", *OPTIONS, str(file)]
    command += ["-o", str(tmp_path / "kernels.cubin")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]
    spills = [int(n) for n in re.findall(r"(\d+) bytes spill stores", done.stderr)]
    assert len(spills) == len(plan.kernels)
    # the assembler puts a few conditions of the backward part of pooling aside
    assert max(spills) <= SPILLED
