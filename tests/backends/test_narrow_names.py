"""With `precision="bf16"` products run on what this processor has for bfloat16, by name.

On one that has nothing for it they run in float32, by the library as well.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pytest

import symgraph as sg
from symgraph import doctor
from symgraph.backends.cpu.compiler import unavailable
from symgraph.backends.cpu.onednn import library
from symgraph.graph.node import Value
from symgraph.lower.plan import CallStep
from symgraph.runtime.native import NativeExecutor

pytestmark = [
    pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is a compiler"),
    pytest.mark.skipif(
        bool(library.status().problem), reason=library.status().problem or "there is a library"
    ),
]

BATCH = 64
TILES, VECTORS, WIDENED = "amx", "avx512_core_bf16", "float32"


def wanted(flags: Collection[str]) -> str:
    """Tell what products in bfloat16 run on, from a processor's features: tiles before vectors."""
    if "amx_bf16" in flags:
        return TILES
    return VECTORS if "avx512_bf16" in flags else WIDENED


def flags() -> set[str]:
    return set(doctor._cpu_fields().get("flags", "").split())


@pytest.mark.parametrize(
    ("features", "answer"),
    [
        ("sse4_2 avx avx2 fma", WIDENED),
        ("avx2 avx512f avx512bw avx512_vnni", WIDENED),
        ("avx2 avx512f avx512bw avx512_bf16", VECTORS),
        ("avx512f avx512_bf16 amx_tile amx_int8 amx_bf16", TILES),
    ],
)
def test_tiles_go_before_vectors_and_vectors_before_float32(features: str, answer: str) -> None:
    assert wanted(features.split()) == answer


def convolutional(x: Value) -> tuple[sg.nn.Module, Value]:
    net = sg.nn.Sequential(
        sg.nn.Conv2d(32, 64, 3, padding=1), sg.nn.Activation("relu"),
        sg.nn.Conv2d(64, 64, 3, padding=1), sg.nn.Activation("relu"),
        sg.nn.MaxPool2d(2, 2), sg.nn.Flatten(), sg.nn.Dense(64 * 8 * 8, 256),
        sg.nn.Activation("relu"), sg.nn.Dense(256, 64),
    )  # fmt: skip
    return net, net(x, train=True)


def perceptron(x: Value) -> tuple[sg.nn.Module, Value]:
    net = sg.nn.Sequential(
        sg.nn.Dense(256, 512), sg.nn.Activation("relu"),
        sg.nn.Dense(512, 512), sg.nn.Activation("relu"), sg.nn.Dense(512, 64),
    )  # fmt: skip
    return net, net(x, train=True)


CONVOLUTIONS = {"conv_bias", "conv_input", "conv_weight", "matmul", "matmul_bias"}
NETS = {
    "convolutional": (convolutional, (32, 16, 16), CONVOLUTIONS),
    "perceptron": (perceptron, (256,), {"matmul", "matmul_bias"}),
}


def called(f: sg.Function, batch: int) -> list[tuple[str, str, set[str]]]:
    """Give operation, implementation and dtypes of the factors of each product by the library."""
    (size,) = (x.shape[0] for x in f.inputs[:1])
    executor = f._executor
    assert isinstance(executor, NativeExecutor)
    bound = executor.bound({size: batch})
    found = []
    for step in bound.plan.steps:
        for use in bound._prepared(step).uses if isinstance(step, CallStep) else ():
            made = use.primitive
            factors = {"src", "weights", "diff_dst"} & made.arguments.keys()
            dtypes = {made.arguments[role].dtype for role in factors}
            if made.name != "reorder":
                found.append((step.name, made.implementation, dtypes))
    return found


@pytest.mark.parametrize("kind", list(NETS))
def test_a_training_step_in_bf16_runs_on_what_the_processor_has(kind: str) -> None:
    make, shape, operations = NETS[kind]
    sg.seed(1)
    B = sg.dim("B")
    x, labels = sg.tensor("x", (B, *shape)), sg.tensor("labels", (B,), "int32")
    net, y = make(x)
    loss = sg.cross_entropy(y, labels).mean()
    updates = sg.optim.SGD(net.parameters(), lr=0.01, momentum=0.9).updates(loss)
    f = sg.function([x, labels], loss, updates, backend="cpu", precision="bf16")
    rng = np.random.default_rng(1)
    images = rng.standard_normal((BATCH, *shape), np.float32)
    assert np.isfinite(f(images, rng.integers(0, 64, BATCH, np.int32)))

    products = called(f, BATCH)
    assert {name for name, _, _ in products} == operations
    answer = wanted(flags())
    if answer == WIDENED:
        assert all(dtypes == {"float32"} for _, _, dtypes in products), products
        assert not any("ref" in name for _, name, _ in products), products
        return
    for operation in operations:
        own = [(name, dtypes) for each, name, dtypes in products if each == operation]
        assert any(answer in name and dtypes == {"bfloat16"} for name, dtypes in own), own
    shown = {row.implementation for row in f.profile(images, np.zeros(BATCH, np.int32)).rows}
    assert any(answer in name for name in shown)
