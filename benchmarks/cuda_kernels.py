"""What the generated CUDA kernels of the models need of a GPU, by NVIDIA's compiler, without one.

For every kernel of a training step at a batch of 128, beside cuDNN and cuBLASLt: the registers of a
thread, bytes of stack and spilled ones, shared memory. Rows hold the largest of each against what a
device gives: 128 registers, so that 512 threads run at once, 48 KiB of shared memory without asking
for more, and no stack, which is slow memory.

    python benchmarks/cuda_kernels.py [--model alexnet,resnet50,perceptron] [--precision fp32,bf16]
                                      [--architecture sm_80,sm_90,sm_100] [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cpu_alexnet
import cpu_mlp
import cpu_resnet
from harness import Benchmark, start
from ours import Problem, compiled

from symgraph.backends.cuda import offline
from symgraph.nn import cross_entropy

MODELS: dict[str, Callable[[], Problem]] = {
    "alexnet": lambda: cpu_alexnet.problem("with-lrn", 1),
    "resnet50": lambda: cpu_resnet.problem(1),
    "perceptron": lambda: cpu_mlp.problem((784, 1024, 1024, 10), 1),
}
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
BATCH = 128
REGISTERS, SHARED = 128, 48 << 10


def options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this script."""

    def names(text: str) -> list[str]:
        return text.split(",")

    parser.add_argument("--model", type=names, default=list(MODELS), help="networks, with commas")
    parser.add_argument("--precision", type=names, default=["fp32", "bf16"], help="precisions")
    parser.add_argument("--architecture", type=names, default=list(ARCHITECTURES), help="GPUs")


def measure(benchmark: Benchmark, name: str, model: str, precision: str, gpus: list[str]) -> None:
    """Compile a training step for every architecture and hold what its kernels need."""
    problem = MODELS[model]()
    x, y = problem.inputs()
    loss = cross_entropy(problem.net(x, train=True), y).mean()
    updates = problem.optimizer.updates(loss)
    graph = compiled([x, y], loss, updates, precision=precision, backend="reference").graph
    (batch,) = [size for size in x.shape if not isinstance(size, int)]
    plan = offline.planned(graph, {batch: BATCH}, narrow=precision == "bf16")
    source = offline.source_of(plan)
    for gpu in gpus:
        made = offline.compiled(source, gpu)
        case = f"{name} {gpu}"
        registers = [one.registers for one in made.kernels]
        stack = max(max(one.stack, one.spilled) for one in made.kernels)
        shared = max(one.shared for one in made.kernels)
        benchmark.limit(f"{case} registers", [max(registers)], REGISTERS, "")
        benchmark.limit(f"{case} shared memory", [max(shared, 1)], SHARED, "B")
        benchmark.limit(f"{case} stack and spills", [max(stack, 1)], 1, "B")
        benchmark.notes.append(
            f"{case}: {len(made.kernels)} kernels for {len(plan.steps)} steps, registers "
            f"{statistics.median(registers):g} in the median, {len(made.code):,} bytes of code"
        )


def main() -> int:
    """Compile everything."""
    benchmark = start("cuda_kernels", __doc__, options=options)
    if offline.found()[0] is None:
        sys.exit(f"{offline.found()[1]}: {offline.install()}")
    chosen = benchmark.chosen
    models = ["perceptron"] if benchmark.quick else chosen.model
    gpus = chosen.architecture[:1] if benchmark.quick else chosen.architecture
    for model in models:
        for precision in chosen.precision:
            name = f"{model} b={BATCH} train {precision}"
            measure(benchmark, name, model, precision, gpus)
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
