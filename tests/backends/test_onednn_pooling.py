"""Pooling and reorders of oneDNN against windows and casts written out with NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from symgraph.backends.cpu.onednn.attributes import Relu, Sum
from symgraph.backends.cpu.onednn.descriptors import Descriptor
from symgraph.backends.cpu.onednn.library import UnimplementedError
from symgraph.backends.cpu.onednn.primitives import Window, pooling, pooling_backward, reorder
from symgraph.errors import BackendError
from tests.backends.onednn_memory import described, need_onednn, normal, run, where_implemented
from tests.tolerances import assert_close

need_onednn()

Dims = tuple[int, ...]

# dims of src, kernel, stride, padding
CASES: dict[str, tuple[Dims, Dims, Dims, tuple[tuple[int, int], ...]]] = {
    "even": ((2, 16, 8, 8), (2, 2), (2, 2), ((0, 0), (0, 0))),
    "overlapping": ((2, 16, 13, 11), (3, 3), (2, 2), ((0, 0), (0, 0))),
    "odd-channels": ((2, 5, 7, 8), (3, 2), (2, 1), ((1, 1), (0, 1))),
    "lopsided": ((1, 20, 6, 7), (3, 3), (1, 2), ((0, 2), (1, 0))),
    "whole": ((2, 32, 5, 6), (5, 6), (1, 1), ((0, 0), (0, 0))),
    "one-axis": ((2, 8, 10), (3,), (2,), ((1, 1),)),
    "three-axes": ((1, 4, 5, 6, 4), (2, 3, 2), (1, 2, 2), ((0, 0), (1, 1), (0, 0))),
}
LAYOUTS = ["row_major", "channels_last"]


def places(src: Dims, kernel: Dims, stride: Dims, padding: tuple[tuple[int, int], ...]) -> Dims:
    sizes = zip(src[2:], kernel, stride, padding)
    return (*src[:2], *((n + low + high - k) // s + 1 for n, k, s, (low, high) in sizes))


def windows(array: np.ndarray, name: str, fill: float) -> np.ndarray:
    """Give what each window sees: (batch, channels, *places, taps)."""
    src, kernel, stride, padding = CASES[name]
    full = np.pad(array.astype(np.float64), [(0, 0)] * 2 + list(padding), constant_values=fill)
    axes = tuple(range(2, full.ndim))
    seen = np.lib.stride_tricks.sliding_window_view(full, kernel, axes)
    seen = seen[(slice(None),) * 2 + tuple(slice(None, None, s) for s in stride)]
    return seen.reshape(*places(src, kernel, stride, padding), -1)


def spread(shares: np.ndarray, name: str) -> np.ndarray:
    """Add what each tap of each window gives to the element that it saw: the adjoint of windows."""
    src, kernel, stride, padding = CASES[name]
    full = np.zeros((*src[:2], *(n + low + high for n, (low, high) in zip(src[2:], padding))))
    out = places(src, kernel, stride, padding)[2:]
    for number, tap in enumerate(np.ndindex(kernel)):
        seen = tuple(slice(k, k + (n - 1) * s + 1, s) for k, s, n in zip(tap, stride, out))
        full[(slice(None),) * 2 + seen] += shares[..., number]
    inside = tuple(slice(low, low + n) for (low, _), n in zip(padding, src[2:]))
    return full[(slice(None),) * 2 + inside]


def first_largest(array: np.ndarray, name: str) -> np.ndarray:
    """Give 1 at the first largest element of each window, 0 elsewhere."""
    seen = windows(array, name, -np.inf)
    return np.eye(seen.shape[-1])[seen.argmax(-1)]


def parts(name: str) -> tuple[Dims, Dims, Dims, Window]:
    src, kernel, stride, padding = CASES[name]
    return src, places(src, kernel, stride, padding), kernel, Window(stride, padding)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CASES)
class TestEveryGeometry:
    @where_implemented
    def test_max(self, name: str, layout: str, dtype: str, rng: np.random.Generator) -> None:
        src, dst, kernel, window = parts(name)
        array = normal(rng, src, dtype)
        array[0, 0] = np.round(array[0, 0].astype(np.float32))  # so that there are ties
        x, y = described(src, dtype, layout), described(dst, dtype, layout)
        forward = pooling("max", x, y, kernel, window)
        out = run(forward, src=array)
        assert_close(out["dst"], windows(array, name, -np.inf).max(-1), "exact")

        backward = pooling_backward("max", described(src, dtype, "any"), y, kernel, window)
        assert backward.workspace == forward.workspace is not None
        g = normal(rng, dst, dtype)
        found = run(backward, diff_dst=g, workspace=out["workspace"])["diff_src"]
        shares = first_largest(array, name) * g.astype(np.float64)[..., None]
        assert_close(found, spread(shares, name), "composite")

    @pytest.mark.parametrize("algorithm", ["mean", "mean_with_padding"])
    @where_implemented
    def test_mean(
        self, name: str, layout: str, dtype: str, algorithm: str, rng: np.random.Generator
    ) -> None:
        src, dst, kernel, window = parts(name)
        x, y = described(src, dtype, layout), described(dst, dtype, layout)
        forward = pooling(algorithm, x, y, kernel, window)
        assert forward.workspace is None
        counted = windows(np.ones(src), name, float(algorithm == "mean_with_padding"))
        array, g = normal(rng, src, dtype), normal(rng, dst, dtype)
        expected = windows(array, name, 0).sum(-1) / counted.sum(-1)
        assert_close(run(forward, src=array)["dst"], expected, "reduce")

        backward = pooling_backward(algorithm, x, y, kernel, window)
        shares = np.broadcast_to((g / counted.sum(-1))[..., None], counted.shape)
        found = run(backward, diff_dst=g)["diff_src"]
        assert_close(found, spread(shares.astype(np.float64), name), "composite")


def test_pooling_in_blocks(rng: np.random.Generator) -> None:
    src, dst, kernel, window = parts("odd-channels")
    x = Descriptor.tagged(src, "float32", "aBcd8b")
    forward = pooling("max", x, Descriptor(dst), kernel, window)
    array, g = normal(rng, src, "float32"), normal(rng, dst, "float32")
    out = run(forward, src=array)
    assert_close(out["dst"], windows(array, "odd-channels", -np.inf).max(-1), "exact")
    assert forward.dst is not None
    backward = pooling_backward("max", x, forward.dst, kernel, window)
    found = run(backward, diff_dst=g, workspace=out["workspace"])["diff_src"]
    shares = first_largest(array, "odd-channels") * g.astype(np.float64)[..., None]
    assert_close(found, spread(shares, "odd-channels"), "composite")


def test_inference_keeps_nothing(rng: np.random.Generator) -> None:
    src, dst, kernel, window = parts("overlapping")
    forward = pooling("max", Descriptor.dense(src), Descriptor(dst), kernel, window, training=False)
    assert forward.workspace is None
    array = normal(rng, src, "float32")
    expected = windows(array, "overlapping", -np.inf).max(-1)
    assert_close(run(forward, src=array)["dst"], expected, "exact")


def test_the_maximum_overlooks_nan_and_is_never_below_the_lowest_number() -> None:
    """Unlike that of symgraph: the caller must know, so a library that differs shall be noticed."""
    dims = (1, 16, 2, 2)
    pool = pooling("max", Descriptor.dense(dims), Descriptor.dense((1, 16, 1, 1)), (2, 2))
    array = np.full(dims, -np.inf, np.float32)
    assert (run(pool, src=array)["dst"] == np.finfo(np.float32).min).all()
    array[:, :, 0, 1], array[:, :, 1, 0] = np.nan, -3
    assert (run(pool, src=array)["dst"] == -3).all()


def test_pooling_arguments_are_checked() -> None:
    x, y = Descriptor.dense((1, 16, 4, 4)), Descriptor.dense((1, 16, 2, 2))
    with pytest.raises(BackendError, match=r"one of max, .* is needed, got 'median'"):
        pooling("median", x, y, (2, 2), Window((2, 2)))
    with pytest.raises(BackendError, match=r"kernel \(2,\) must have one size for each of 2"):
        pooling("max", x, y, (2,), Window((2, 2)))
    with pytest.raises(BackendError, match="max pooling: oneDNN"):
        pooling("max", x, y, (3, 3), Window((2, 2)))


# -- reorder --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target"),
    [("abcd", "acdb"), ("acdb", "aBcd16b"), ("aBcd8b", "abcd"), ("abcd", "ABcd16b16a")],
)
def test_reorder_moves_every_element(source: str, target: str, rng: np.random.Generator) -> None:
    dims = (3, 21, 5, 4)
    primitive = reorder(
        Descriptor.tagged(dims, "float32", source), Descriptor.tagged(dims, "float32", target)
    )
    array = normal(rng, dims, "float32")
    assert_close(run(primitive, src=array)["dst"], array, "exact")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8", "uint8", "int32"])
@where_implemented
def test_reorder_rounds_to_nearest_even_and_saturates(dtype: str, rng: np.random.Generator) -> None:
    array = rng.standard_normal((7, 33)).astype(np.float32)
    array[0, :6] = [0.5, 1.5, 2.5, -0.5, 300, -300]
    there = reorder(Descriptor.dense(array.shape), Descriptor.dense(array.shape, dtype))
    back = reorder(Descriptor.dense(array.shape, dtype), Descriptor.dense(array.shape))
    found = run(there, src=array)["dst"]
    expected = array
    if "int" in dtype:
        limits = np.iinfo(dtype)
        expected = np.clip(np.rint(array), limits.min, limits.max).astype(dtype)
    assert_close(found, expected.astype(found.dtype), "exact")
    assert_close(run(back, src=found)["dst"], found.astype(np.float32), "exact")


def test_what_a_reorder_adds(rng: np.random.Generator) -> None:
    dims = (4, 6)
    a, b = Descriptor.dense(dims), Descriptor.dense((6, 4)).permute((1, 0))
    array, held = normal(rng, dims, "float32"), normal(rng, dims, "float32")
    summed = reorder(a, b, post_ops=[Sum(2.0)])
    expected = array.astype(np.float64) + 2.0 * held
    assert_close(run(summed, src=array, dst=held)["dst"], expected, "elementwise")
    with pytest.raises(UnimplementedError, match="reorder: oneDNN"):
        reorder(a, b, post_ops=[Relu()])
