"""Runs plans of CUDA kernels on this CPU: the same source, compiled by g++ with a small header."""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from symgraph.dims import Dim
from symgraph.graph.dtypes import numpy_dtype
from symgraph.graph.graph import Graph
from symgraph.graph.node import Value
from symgraph.lower.cuda.kernel import Kernel
from symgraph.lower.cuda.module import module
from symgraph.lower.cuda.target import device_target
from symgraph.lower.cuda.types import MEMORY
from symgraph.lower.nest import Buffer
from symgraph.lower.plan import CallStep, CheckStep, KernelStep, Plan, make_plan
from symgraph.lower.program import Operand, number

SHIM = Path(__file__).with_name("cuda_shim.h")
COMPILER = shutil.which("g++")
FLAGS = ("-std=c++17", "-O0", "-march=native", "-ffp-contract=off", "-w", "-fPIC")
MEETS = re.compile("__syncthreads|shift_down|of_first")  # what needs threads side by side
MOST_BLOCKS = 7  # few, so that a block has several tasks
Env = Mapping[Dim, int]


def planned(graph: Graph, env: Env) -> Plan:
    """Plan a graph without a library: everything is kernels."""
    return make_plan(graph, env, device_target(env))


def compiled(source: str, launchers: Sequence[str], folder: Path, *flags: str) -> ctypes.CDLL:
    """Compile the source of kernels, unchanged, with functions that launch them.

    What was compiled in the folder before is taken from there.
    """
    text = "\n".join([source, *launchers])
    name = hashlib.sha256("\n".join([*flags, text]).encode()).hexdigest()[:16]
    file, target = folder / f"{name}.cpp", folder / f"{name}.so"
    if not target.exists():
        file.write_text(text)
        made = folder / f"{name}.new"
        header = ("-include", str(precompiled_shim()))
        _compile(*header, *flags, "-shared", "-o", str(made), str(file))
        made.replace(target)
    return ctypes.CDLL(str(target))


@cache
def precompiled_shim() -> Path:
    """Give the shim, compiled once a process: that is most of what a small module costs."""
    folder = Path(tempfile.mkdtemp(prefix="symgraph-shim-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    header = folder / SHIM.name
    shutil.copy(SHIM, header)
    _compile("-x", "c++-header", "-o", f"{header}.gch", str(header))
    return header


def _compile(*arguments: str) -> None:
    assert COMPILER is not None
    command = [COMPILER, *FLAGS, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]


class Host:
    """Kernels compiled for the CPU, with narrow indices or wide ones."""

    def __init__(
        self, kernels: Sequence[Kernel], folder: Path, *flags: str, wide: bool = False
    ) -> None:
        names = [f"k{place}" for place in range(len(kernels))]
        self.source = module(kernels, names, wide)
        launchers = [self._launcher(one, name) for one, name in zip(kernels, names)]
        self.library = compiled(self.source, launchers, folder, *flags)

    def _launcher(self, kernel: Kernel, name: str) -> str:
        arguments = [f"({MEMORY[one.dtype]}*)buffers[{k}]" for k, one in enumerate(kernel.buffers)]
        arguments += [f"sizes[{k}]" for k in range(len(kernel.sizes))]
        barriers = "true" if MEETS.search(kernel.text) else "false"
        return (
            f'extern "C" void run_{name}(void** buffers, long long* sizes,\n'
            f"    long long tasks, unsigned blocks, unsigned seed) {{\n"
            f"  shim::launch(blocks, {kernel.threads}, {barriers}, seed, [&] {{\n"
            f"    {name}({', '.join([*arguments, 'tasks'])});\n  }});\n}}\n"
        )

    def launch(
        self, place: int, kernel: Kernel, arrays: Sequence[Any], sizes: Sequence[int], tasks: int,
        seed: int,
    ) -> None:  # fmt: skip
        """Run one kernel on arrays."""
        pointers = (ctypes.c_void_p * len(arrays))(*(one.ctypes.data for one in arrays))
        numbers = (ctypes.c_longlong * max(1, len(sizes)))(*sizes)
        run = getattr(self.library, f"run_k{place}")
        blocks = kernel.blocks(tasks, MOST_BLOCKS)
        run(pointers, numbers, ctypes.c_longlong(tasks), blocks, seed)


def run(
    plan: Plan, host: Host, feeds: Mapping[Value, Any], env: Env, seed: int = 0, first: int = 0,
    calls: Callable[..., Any] | None = None,
) -> list[Any]:  # fmt: skip
    """Compute the outputs of a plan; its kernels are those of `host` from `first` on.

    `calls(value, *operands)` computes what a library would.
    """
    memory: dict[Buffer, Any] = {o: np.array(a) for o, a in plan.program.constants.items()}
    for value, one in plan.program.inputs.items():
        memory[one] = np.array(feeds[value], order="C")  # on a device it begins with a line
    for shared, one in plan.program.shared.items():
        memory[one] = np.array(shared.storage.array)
    for shared, one in plan.in_place.items():
        memory[one] = memory[plan.program.shared[shared]]
    size = partial(number, env=env)

    def array(one: Buffer) -> Any:
        if one not in memory:
            count = 1 + sum((size(n) - 1) * size(s) for n, s in zip(one.shape, one.strides))
            empty = any(size(n) == 0 for n in one.shape)
            made = np.empty(0 if empty else count, numpy_dtype(one.dtype))
            made.view(np.uint8)[...] = 0xCD
            memory[one] = made
        return memory[one]

    for step in plan.steps:
        if isinstance(step, CheckStep):
            assert array(step.condition).all(), "a check of the step failed"
            continue
        if isinstance(step, CallStep):
            assert calls is not None
            operands = [strided(array(one.buffer), one, env) for one in step.call.sources]
            (target,) = step.call.writes
            strided(array(target), target, env)[...] = calls(step.call.value, *operands)
            continue
        assert isinstance(step, KernelStep)
        kernel = plan.kernels[step.kernel]
        arrays = [array(one) for one in step.buffers]
        sizes = [size(one) for one in step.sizes]
        host.launch(first + step.kernel, kernel, arrays, sizes, size(step.tasks), seed)
    return [shaped(array(one), one, env) for one in plan.program.outputs]


def shaped(flat: Any, one: Buffer, env: Env) -> Any:
    """Give an array of a buffer's shape."""
    return np.array(strided(flat, one, env))


def strided(flat: Any, one: Buffer | Operand, env: Env) -> Any:
    """Give the memory of a buffer, or what an operand sees of it, as it is shaped."""
    shape = [number(n, env) for n in one.shape]
    strides = [number(s, env) * flat.itemsize for s in one.strides]
    start = number(one.offset, env) if isinstance(one, Operand) else 0
    return np.lib.stride_tricks.as_strided(flat.reshape(-1)[start:], shape, strides)
