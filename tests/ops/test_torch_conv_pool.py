"""PyTorch on the CPU as a second opinion: values and all gradients of convolution and pooling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from symgraph.dims import dim
from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import tensor
from symgraph.graph.registry import F

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

T: Any = torch.nn.functional
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}
Call = Callable[..., Any]


def compare(ours: Call, theirs: Call, shapes: list[tuple[int, ...]], dtype: str, seed: int) -> None:
    """Compare values, first gradients by all operands, and gradients of those by everything."""
    rng = np.random.default_rng(seed)
    # a permutation: no two elements under a window are equal, so that a maximum has one place
    arrays = [
        (rng.permutation(int(np.prod(s))).reshape(s) / np.prod(s) * 4 - 2).astype(dtype)
        for s in shapes
    ]
    names = [dim(f"s{d}") for d in range(len(shapes[0]))]
    env = dict(zip(names, shapes[0]))
    inputs = [tensor("x0", names, dtype)]
    inputs += [tensor(f"x{i}", s, dtype) for i, s in enumerate(shapes[1:], 1)]
    y = ours(*inputs)
    leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
    expected = theirs(*leaves)
    cotangent = rng.normal(size=tuple(expected.shape)).astype(dtype)
    g = tensor("g", y.shape, dtype)
    pulled = F.vjp(y, inputs, g)
    g_leaf = torch.tensor(cotangent, requires_grad=True)
    first = torch.autograd.grad(expected, leaves, g_leaf, create_graph=True)
    weights = [rng.normal(size=a.shape).astype(dtype) for a in arrays]
    total = sum((F.sum(p * w) for p, w in zip(pulled, weights)), start=F.constant(0.0, dtype))
    second = F.grad(total, [*inputs, g], missing="zero")
    their_total = sum((p * torch.tensor(w)).sum() for p, w in zip(first, weights))
    their_second = torch.autograd.grad(their_total, [*leaves, g_leaf], materialize_grads=True)
    feeds = {**dict(zip(inputs, arrays)), g: cotangent}
    found = interpret([y, *pulled, *second], feeds, env)
    for number, (a, b) in enumerate(zip(found, [expected, *first, *their_second], strict=True)):
        wanted = b.detach().numpy()
        assert a.dtype == dtype
        assert a.shape == wanted.shape
        scale = max(1.0, float(np.abs(wanted).max(initial=0)))
        np.testing.assert_allclose(a, wanted, rtol=0, atol=TOLERANCE[dtype] * scale,
                                   err_msg=f"result {number}")  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One convolution: sizes and arguments, the padding as (before, after) for each axis."""

    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    batch: int = 2
    channels: int = 2
    filters: int = 3
    stride: tuple[int, ...] = (1, 1)
    padding: tuple[tuple[int, int], ...] | str = ((0, 0), (0, 0))
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1


# fmt: off
NAMED = {
    "plain": Case((5, 6), (3, 2)),
    "pointwise": Case((4, 3), (1, 1), channels=5),
    "whole image": Case((4, 3), (4, 3)),
    "stride": Case((9, 8), (3, 3), stride=(4, 2)),
    "stride beyond the filter": Case((9, 8), (2, 1), stride=(3, 4)),
    "unseen end": Case((8, 9), (3, 3), stride=(2, 4)),
    "padding": Case((4, 5), (3, 3), padding=((1, 1), (2, 2))),
    "padding beyond the filter": Case((3, 3), (2, 2), padding=((3, 3), (2, 2))),
    "asymmetric": Case((4, 5), (3, 2), padding=((1, 0), (0, 2))),
    "asymmetric stride": Case((5, 6), (3, 3), stride=(2, 3), padding=((0, 1), (2, 1))),
    "dilation": Case((9, 8), (3, 2), dilation=(2, 3)),
    "dilation padding": Case((5, 5), (3, 3), padding=((2, 2), (1, 3)), dilation=(2, 1)),
    "groups": Case((5, 4), (3, 3), channels=4, filters=6, groups=2),
    "depthwise": Case((5, 4), (3, 3), channels=5, filters=5, groups=5, padding=((1, 1), (1, 1))),
    "depthwise many": Case((5, 4), (2, 3), channels=3, filters=6, groups=3, stride=(2, 1)),
    "same odd": Case((5, 4), (3, 5), padding="same"),
    "same even": Case((5, 4), (2, 4), padding="same"),
    "same dilation": Case((7, 6), (3, 2), padding="same", dilation=(2, 3)),
    "everything": Case((9, 10), (3, 2), 3, 4, 6, (2, 3), ((2, 1), (0, 3)), (2, 2), 2),
    "alexnet conv1 small": Case((35, 35), (11, 11), channels=3, filters=4, stride=(4, 4)),
    "alexnet conv2 small": Case((9, 9), (5, 5), 2, 4, 4, padding=((2, 2), (2, 2)), groups=2),
    "1d": Case((17,), (3,), stride=(2,), padding=((1, 2),), dilation=(2,)),
    "3d": Case((4, 5, 3), (2, 3, 1), stride=(1, 2, 1), padding=((1, 1), (0, 1), (0, 0)),
               dilation=(2, 1, 1)),
}
# fmt: on


def drawn(count: int) -> dict[str, Case]:
    """Draw convolutions whose windows fit."""
    rng = np.random.default_rng(5)
    cases: dict[str, Case] = {}
    while len(cases) < count:
        groups = int(rng.choice([1, 1, 2, 3]))
        padding = tuple(tuple(int(p) for p in rng.integers(0, 4, 2)) for _ in range(2))
        two = [tuple(int(v) for v in rng.integers(1, 4, 2)) for _ in range(3)]
        each, batch, per_filter = (int(v) for v in rng.integers(1, 4, 3))
        sizes = tuple(int(v) for v in rng.integers(1, 11, 2))
        fits = all(
            d * (k - 1) + 1 <= low + n + high
            for n, k, d, (low, high) in zip(sizes, two[0], two[2], padding)
        )
        if fits:
            cases[f"drawn{len(cases)}"] = Case(
                sizes, two[0], batch, groups * each, groups * per_filter, two[1], padding,
                two[2], groups,
            )  # fmt: skip
    return cases


def their_conv(case: Case) -> Call:
    function = (T.conv1d, T.conv2d, T.conv3d)[len(case.sizes) - 1]

    def convolve(x: Any, w: Any) -> Any:
        padding: Any = case.padding
        if not isinstance(padding, str):
            x = T.pad(x, [side for pair in reversed(padding) for side in pair])
            padding = 0
        return function(x, w, None, case.stride, padding, case.dilation, case.groups)

    return convolve


def our_conv(case: Case) -> Call:
    function = (F.conv1d, F.conv2d, F.conv3d)[len(case.sizes) - 1]
    return lambda x, w: function(
        x, w, case.stride, case.padding, dilation=case.dilation, groups=case.groups
    )


def shapes(case: Case) -> list[tuple[int, ...]]:
    image = (case.batch, case.channels, *case.sizes)
    return [image, (case.filters, case.channels // case.groups, *case.kernel)]


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*NAMED, *drawn(25)])
def test_conv(name: str, dtype: str) -> None:
    case = NAMED.get(name) or drawn(25)[name]
    compare(our_conv(case), their_conv(case), shapes(case), dtype, seed=1)


@pytest.mark.parametrize("sizes", [(5, 6), (7, 7), (1, 2), (8, 3)])
@pytest.mark.parametrize("kernel", [(3, 3), (2, 4), (1, 5)])
@pytest.mark.parametrize("stride", [(2, 2), (3, 1)])
def test_same_padding_with_stride(
    sizes: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    """The rule of ONNX SAME_UPPER: ceil(size / stride) places, the odd padding at the end."""
    pads = []
    for n, k, s in zip(sizes, kernel, stride):
        total = max((-(-n // s) - 1) * s + k - n, 0)
        pads.append((total // 2, total - total // 2))
    case = Case(sizes, kernel, stride=stride, padding=tuple(pads))
    compare(our_conv(replace(case, padding="same")), their_conv(case), shapes(case), "float64", 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("stride", "padding", "output_padding", "dilation", "groups"),
    [
        ((1, 1), (0, 0), (0, 0), (1, 1), 1),
        ((2, 3), (1, 0), (1, 2), (1, 1), 1),
        ((2, 1), (2, 1), (0, 0), (2, 2), 2),
        ((3, 3), (0, 2), (2, 0), (1, 3), 2),
    ],
)
def test_conv_transpose(
    stride: Any, padding: Any, output_padding: Any, dilation: Any, groups: int, dtype: str
) -> None:
    compare(
        lambda x, w: F.conv_transpose2d(x, w, stride, padding, output_padding, dilation, groups),
        lambda x, w: T.conv_transpose2d(
            x, w, None, stride, padding, output_padding, groups, dilation
        ),
        [(2, 4, 4, 5), (4, 3, 3, 2)], dtype, seed=3,
    )  # fmt: skip


POOLS = [
    # size, kernel, stride, padding, ceil_mode
    ((6, 8), (2, 2), (2, 2), (0, 0), False),
    ((7, 9), (3, 3), (2, 2), (0, 0), False),
    ((13, 13), (3, 3), (2, 2), (0, 0), False),
    ((5, 6), (3, 2), (1, 3), (1, 0), False),
    ((6, 5), (3, 3), (2, 2), (1, 1), True),
    ((6, 6), (3, 3), (2, 2), (0, 0), True),
    ((5, 4), (3, 2), (3, 3), (1, 1), True),
    ((4, 7), (4, 4), (4, 2), (2, 2), True),
    ((9, 9), (2, 2), (3, 4), (0, 0), True),
    ((3, 3), (1, 1), (1, 1), (0, 0), False),
    ((17, 1), (16, 1), (1, 1), (0, 0), False),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "ceil_mode"), POOLS)
def test_max_pool(
    size: Any, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, dtype: str
) -> None:
    compare(
        lambda x: F.max_pool2d(x, kernel, stride, padding, ceil_mode),
        lambda x: T.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil_mode),
        [(3, 2, *size)], dtype, seed=4,
    )  # fmt: skip


@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "ceil_mode"), POOLS)
def test_avg_pool(
    size: Any, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, dtype: str, include: bool
) -> None:
    compare(
        lambda x: F.avg_pool2d(x, kernel, stride, padding, ceil_mode, include),
        lambda x: T.avg_pool2d(x, kernel, stride, padding, ceil_mode, include),
        [(3, 2, *size)], dtype, seed=5,
    )  # fmt: skip


def test_pool_of_other_ranks() -> None:
    shape3 = (2, 2, 4, 5, 6)
    compare(lambda x: F.max_pool1d(x, 3, 2, 1), lambda x: T.max_pool1d(x, 3, 2, 1),
            [(2, 3, 11)], "float64", 6)  # fmt: skip
    compare(lambda x: F.avg_pool1d(x, 3, 2), lambda x: T.avg_pool1d(x, 3, 2),
            [(2, 3, 11)], "float64", 6)  # fmt: skip
    compare(lambda x: F.max_pool3d(x, 2, (1, 2, 3)), lambda x: T.max_pool3d(x, 2, (1, 2, 3)),
            [shape3], "float64", 6)  # fmt: skip
    compare(lambda x: F.avg_pool3d(x, (1, 3, 2), 2), lambda x: T.avg_pool3d(x, (1, 3, 2), 2),
            [shape3], "float64", 6)  # fmt: skip


def test_tied_maxima_and_nan_go_where_torch_sends_them() -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(0, 3, (4, 3, 9, 9)).astype("float64")
    array[0, 0, 2, 3] = array[0, 0, 2, 4] = np.nan
    leaf = torch.tensor(array, requires_grad=True)
    expected = T.max_pool2d(leaf, 3, 2)
    cotangent = rng.normal(size=tuple(expected.shape))
    (wanted,) = torch.autograd.grad(expected, leaf, torch.tensor(cotangent))
    x, g = tensor("x", array.shape, "float64"), tensor("g", cotangent.shape, "float64")
    y = F.max_pool2d(x, 3, 2)
    found = interpret([y, F.vjp(y, x, g)], {x: array, g: cotangent})
    np.testing.assert_array_equal(found[0], expected.detach().numpy())
    ties = np.isfinite(wanted.numpy())
    assert ties.all()
    # torch gives a window with several NaN to the last of them, we to the first
    np.testing.assert_allclose(found[1][1:], wanted.numpy()[1:], atol=1e-12)
    np.testing.assert_allclose(found[1][0, 1:], wanted.numpy()[0, 1:], atol=1e-12)
