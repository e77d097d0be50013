"""PyTorch on the CPU as a second opinion: values and gradients of normalisation and losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import tensor
from symgraph.graph.registry import F

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

RNG = np.random.default_rng(11)
IMAGES = RNG.normal(size=(4, 7, 5, 3))
ROWS = RNG.normal(size=(6, 9)) * 4
LABELS = np.array([0, 8, 3, 3, 1, 7])
PER_CHANNEL = (RNG.normal(size=7), RNG.normal(size=7))
PER_FEATURE = (RNG.normal(size=9), RNG.normal(size=9))
T: Any = torch.nn.functional

# fmt: off
CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...]]] = {
    "batch_norm": (
        lambda x, a, b: F.batch_norm(x, a, b, epsilon=1e-3)[0],
        lambda x, a, b: T.batch_norm(x, None, None, a, b, training=True, eps=1e-3),
        (IMAGES, *PER_CHANNEL),
    ),
    "layer_norm": (
        lambda x, a, b: F.layer_norm(x, a, b),
        lambda x, a, b: T.layer_norm(x, (9,), a, b),
        (ROWS, *PER_FEATURE),
    ),
    "layer_norm two axes": (
        lambda x: F.layer_norm(x, axis=(2, 3), epsilon=1e-2),
        lambda x: T.layer_norm(x, (5, 3), eps=1e-2),
        (IMAGES,),
    ),
    "rms_norm": (
        lambda x, a: F.rms_norm(x, a),
        lambda x, a: T.rms_norm(x, (9,), a, eps=1e-6),
        (ROWS, PER_FEATURE[0]),
    ),
    "local_response_norm": (
        lambda x: F.local_response_norm(x, 5, 0.2, 0.75, 1.0, form="caffe"),
        lambda x: T.local_response_norm(x, 5, 0.2, 0.75, 1.0),
        (IMAGES,),
    ),
    "local_response_norm even": (
        lambda x: F.local_response_norm(x, 4, 0.2, 0.6, 2.0, form="caffe"),
        lambda x: T.local_response_norm(x, 4, 0.2, 0.6, 2.0),
        (IMAGES,),
    ),
    "softmax": (F.softmax, lambda x: T.softmax(x, dim=-1), (ROWS,)),
    "softmax axis": (
        lambda x: F.softmax(x, axis=1), lambda x: T.softmax(x, dim=1), (IMAGES,),
    ),
    "log_softmax": (F.log_softmax, lambda x: T.log_softmax(x, dim=-1), (ROWS,)),
    "logsumexp": (
        lambda x: F.logsumexp(x, axis=(1, 3)), lambda x: torch.logsumexp(x, (1, 3)), (IMAGES,),
    ),
    "cross_entropy": (
        lambda x: F.cross_entropy(x, LABELS),
        lambda x: T.cross_entropy(x, torch.tensor(LABELS), reduction="none"),
        (ROWS,),
    ),
    "cross_entropy of pixels": (
        lambda x: F.cross_entropy(x, np.full((4, 5, 3), 6), axis=1),
        lambda x: T.cross_entropy(x, torch.full((4, 5, 3), 6), reduction="none"),
        (IMAGES,),
    ),
    "binary_cross_entropy_with_logits": (
        lambda x, y: F.binary_cross_entropy_with_logits(x, y),
        lambda x, y: T.binary_cross_entropy_with_logits(x, y, reduction="none"),
        (ROWS, RNG.uniform(size=ROWS.shape)),
    ),
    "gelu": (F.gelu, T.gelu, (ROWS,)),
    "gelu approximate": (
        lambda x: F.gelu(x, approximate=True), lambda x: T.gelu(x, approximate="tanh"), (ROWS,),
    ),
}
# fmt: on


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", list(CASES))
def test_values_and_gradients(name: str, dtype: str) -> None:
    ours, theirs, arrays = CASES[name]
    arrays = tuple(array.astype(dtype) for array in arrays)
    inputs = [tensor(f"x{i}", array.shape, dtype) for i, array in enumerate(arrays)]
    y = ours(*inputs)
    weight = np.random.default_rng(5).normal(size=y.shape).astype(dtype)
    slopes = F.grad(F.sum(y * weight), inputs)
    found = interpret([y, *slopes], dict(zip(inputs, arrays)))

    leaves = [torch.tensor(array, requires_grad=True) for array in arrays]
    result = theirs(*leaves)
    (result * torch.tensor(weight)).sum().backward()
    expected = [result.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)]

    near = 1e-11 if dtype == "float64" else 3e-5
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=near, atol=near * np.abs(other).max())


@pytest.mark.parametrize("name", ["local_response_norm", "cross_entropy", "layer_norm"])
def test_second_derivatives(name: str) -> None:
    ours, theirs, arrays = CASES[name]
    inputs = [tensor(f"x{i}", array.shape, "float64") for i, array in enumerate(arrays)]
    slope = F.grad(F.sum(F.square(ours(*inputs))), inputs[0])
    found = interpret([F.grad(F.sum(F.square(slope)), inputs[0])], dict(zip(inputs, arrays)))[0]

    leaves = [torch.tensor(array, requires_grad=True) for array in arrays]
    total = theirs(*leaves).square().sum()
    (first,) = torch.autograd.grad(total, leaves[:1], create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), leaves[:1])
    expected = second.numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
