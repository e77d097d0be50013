"""Matrix products of oneDNN against NumPy: batches, transposes, bias, post-ops, open layouts."""

from __future__ import annotations

import numpy as np
import pytest

from symgraph.backends.cpu.onednn.attributes import Binary, Relu, Sum
from symgraph.backends.cpu.onednn.descriptors import Descriptor
from symgraph.backends.cpu.onednn.primitives import (
    inner_product,
    inner_product_backward_data,
    inner_product_backward_weights,
    matmul,
)
from symgraph.errors import BackendError
from tests.backends.onednn_memory import described, need_onednn, normal, run, where_implemented
from tests.tolerances import assert_close

need_onednn()

Dims = tuple[int, ...]


def wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64)


def transposed(dims: Dims, dtype: str) -> Descriptor:
    """Describe a factor whose memory is that of its transpose, C-contiguous."""
    axes = (*range(len(dims) - 2), len(dims) - 1, len(dims) - 2)
    return Descriptor.dense([dims[axis] for axis in axes], dtype).permute(axes)


MAKE = {
    "any": lambda dims, dtype: Descriptor(dims, dtype),
    "plain": Descriptor.dense,
    "transposed": transposed,
}
SHAPES: list[tuple[Dims, Dims]] = [
    ((5, 7), (7, 3)),
    ((1, 33), (33, 65)),
    ((64, 1), (1, 17)),
    ((17, 33), (33, 1)),
    ((4, 6, 5), (4, 5, 8)),
    ((4, 6, 5), (1, 5, 8)),
    ((1, 6, 5), (3, 5, 8)),
    ((2, 3, 6, 5), (2, 3, 5, 4)),
    ((0, 5), (5, 3)),
]


def product_dims(src: Dims, weights: Dims) -> Dims:
    batch = tuple(max(a, b) for a, b in zip(src[:-2], weights[:-2]))
    return (*batch, src[-2], weights[-1])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "layouts", [("plain", "any"), ("transposed", "plain"), ("any", "transposed")]
)
@pytest.mark.parametrize(("src", "weights"), SHAPES)
@where_implemented
def test_matmul(
    src: Dims, weights: Dims, layouts: tuple[str, str], dtype: str, rng: np.random.Generator
) -> None:
    dims = product_dims(src, weights)
    primitive = matmul(
        MAKE[layouts[0]](src, dtype),
        MAKE[layouts[1]](weights, dtype),
        None,
        Descriptor.dense(dims, dtype),
    )
    a, b = normal(rng, src, dtype), normal(rng, weights, dtype)
    assert_close(run(primitive, src=a, weights=b)["dst"], wide(a) @ wide(b), "contract")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@where_implemented
def test_matmul_with_bias_and_post_ops(dtype: str, rng: np.random.Generator) -> None:
    src, weights, dst = (9, 40), (40, 24), (9, 24)
    primitive = matmul(
        Descriptor.dense(src, dtype),
        Descriptor(weights, dtype),
        Descriptor.dense((1, 24)),
        Descriptor.dense(dst),
        post_ops=[Relu(), Binary("mul", Descriptor.dense((9, 1))), Sum()],
    )
    arrays = {
        "src": normal(rng, src, dtype),
        "weights": normal(rng, weights, dtype),
        "bias": normal(rng, (1, 24), "float32"),
        "dst": normal(rng, dst, "float32"),
        "post_op_1": normal(rng, (9, 1), "float32"),
    }
    w = {role: wide(array) for role, array in arrays.items()}
    expected = np.maximum(w["src"] @ w["weights"] + w["bias"], 0) * w["post_op_1"] + w["dst"]
    assert_close(run(primitive, **arrays)["dst"], expected, "contract")


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_integer_matmul_is_exact(dtype: str, rng: np.random.Generator) -> None:
    primitive = matmul(
        Descriptor.dense((17, 70), dtype),
        Descriptor((70, 33), "int8"),
        None,
        Descriptor.dense((17, 33), "int32"),
    )
    a, b = normal(rng, (17, 70), dtype), normal(rng, (70, 33), "int8")
    expected = a.astype(np.int32) @ b.astype(np.int32)
    assert_close(run(primitive, src=a, weights=b)["dst"], expected, "exact")


def test_a_factor_may_have_gaps_between_rows(rng: np.random.Generator) -> None:
    primitive = matmul(
        Descriptor((6, 5), "float32", (8, 1)),
        Descriptor((5, 7), "float32", (11, 1)),
        None,
        Descriptor((6, 7), "float32", (9, 1)),
    )
    a, b = normal(rng, (6, 5), "float32"), normal(rng, (5, 7), "float32")
    assert_close(run(primitive, src=a, weights=b)["dst"], wide(a) @ wide(b), "contract")


def test_matmul_names_what_does_not_fit() -> None:
    with pytest.raises(BackendError, match=r"(?s)matmul: .* invalid_arguments.*weights : float32"):
        matmul(Descriptor.dense((2, 3)), Descriptor.dense((4, 5)), None, Descriptor.dense((2, 5)))


# -- inner product --------------------------------------------------------------------------------

INNER: list[tuple[Dims, int]] = [
    ((5, 7), 3),
    ((32, 65), 48),
    ((1, 33), 17),
    ((8, 16, 3, 3), 10),
    ((3, 5, 4), 6),
]


def flat(array: np.ndarray) -> np.ndarray:
    return wide(array).reshape(array.shape[0], -1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layout", ["any", "row_major"])
@pytest.mark.parametrize(("src", "outputs"), INNER)
@where_implemented
def test_inner_product_in_three_directions(
    src: Dims, outputs: int, layout: str, dtype: str, rng: np.random.Generator
) -> None:
    weights, dst = (outputs, *src[1:]), (src[0], outputs)
    x = described(src, dtype, layout)
    w, y = described(weights, dtype, layout), described(dst, dtype, layout)
    bias = Descriptor.dense((outputs,))
    forward = inner_product(x, w, bias, y, training=layout == "any", post_ops=[Relu()])
    by_data = inner_product_backward_data(x, w, y)
    by_weights = inner_product_backward_weights(x, described(weights, "float32", layout), bias, y)

    a, b, g = normal(rng, src, dtype), normal(rng, weights, dtype), normal(rng, dst, dtype)
    c = normal(rng, (outputs,), "float32")
    out = run(forward, src=a, weights=b, bias=c)
    assert_close(out["dst"], np.maximum(flat(a) @ flat(b).T + wide(c), 0), "contract")
    out = run(by_data, weights=b, diff_dst=g)
    assert_close(out["diff_src"], (wide(g) @ flat(b)).reshape(src), "contract")
    out = run(by_weights, src=a, diff_dst=g)
    assert_close(out["diff_weights"], (wide(g).T @ flat(a)).reshape(weights), "contract")
    assert_close(out["diff_bias"], wide(g).sum(0), "contract")


def test_inner_product_without_bias(rng: np.random.Generator) -> None:
    src, weights, dst = (4, 6), (5, 6), (4, 5)
    forward = inner_product(Descriptor(src), Descriptor(weights), None, Descriptor(dst))
    backward = inner_product_backward_weights(
        Descriptor(src), Descriptor(weights), None, Descriptor(dst)
    )
    a, b, g = (normal(rng, dims, "float32") for dims in (src, weights, dst))
    assert forward.bias is None
    assert backward.diff_bias is None
    assert_close(run(forward, src=a, weights=b)["dst"], wide(a) @ wide(b).T, "contract")
    out = run(backward, src=a, diff_dst=g)
    assert_close(out["diff_weights"], wide(g).T @ wide(a), "contract")
