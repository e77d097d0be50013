"""Convolutions of oneDNN, in three directions, against sums written out with NumPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import signal

from symgraph.backends.cpu.onednn.attributes import Binary, Relu, Sum
from symgraph.backends.cpu.onednn.descriptors import Descriptor, row_major
from symgraph.backends.cpu.onednn.library import UnimplementedError
from symgraph.backends.cpu.onednn.primitives import (
    Window,
    convolution,
    convolution_backward_data,
    convolution_backward_weights,
)
from symgraph.errors import BackendError
from tests.backends.onednn_memory import described, need_onednn, normal, run, where_implemented
from tests.tolerances import assert_close

need_onednn()


@dataclass(frozen=True)
class Case:
    """One geometry: (batch, channels, *sizes), filters, kernel, then what may differ by axis."""

    src: tuple[int, ...]
    filters: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1

    @property
    def steps(self) -> tuple[int, ...]:
        return self.stride or (1,) * len(self.kernel)

    @property
    def gaps(self) -> tuple[int, ...]:
        return self.dilation or (1,) * len(self.kernel)

    @property
    def pads(self) -> tuple[tuple[int, int], ...]:
        return self.padding or ((0, 0),) * len(self.kernel)

    @property
    def window(self) -> Window:
        return Window(self.stride or None, self.padding or None, self.dilation or None)

    @property
    def weights(self) -> tuple[int, ...]:
        per_group = self.src[1] // self.groups
        if self.groups == 1:
            return (self.filters, per_group, *self.kernel)
        return (self.groups, self.filters // self.groups, per_group, *self.kernel)

    @property
    def dst(self) -> tuple[int, ...]:
        places = tuple(
            (size + low + high - (k - 1) * gap - 1) // step + 1
            for size, (low, high), k, gap, step in zip(
                self.src[2:], self.pads, self.kernel, self.gaps, self.steps
            )
        )
        return (self.src[0], self.filters, *places)


CASES = {
    "plain": Case((2, 16, 7, 6), 32, (3, 3)),
    "pointwise": Case((2, 20, 5, 5), 24, (1, 1)),
    "odd-channels": Case((2, 5, 9, 8), 7, (3, 2), padding=((1, 1), (0, 1))),
    "first-layer": Case((2, 3, 23, 23), 16, (11, 11), stride=(4, 4)),
    "strided": Case((2, 16, 9, 10), 16, (3, 3), (2, 3), ((1, 1), (1, 1))),
    "lopsided": Case((1, 8, 6, 7), 8, (3, 3), padding=((0, 2), (3, 1))),
    "dilated": Case((2, 16, 11, 9), 16, (3, 3), (1, 2), ((2, 2), (1, 1)), (2, 3)),
    "groups": Case((2, 32, 6, 6), 32, (3, 3), padding=((1, 1), (1, 1)), groups=2),
    "odd-groups": Case((2, 6, 6, 5), 9, (3, 3), groups=3),
    "depthwise": Case((2, 16, 8, 7), 16, (3, 3), (1, 1), ((1, 1), (1, 1)), groups=16),
    "depthwise-odd": Case((1, 5, 8, 8), 5, (5, 1), (2, 1), ((2, 2), (0, 0)), groups=5),
    "one-axis": Case((3, 16, 20), 8, (5,), (2,), ((2, 1),)),
    "one-axis-groups": Case((2, 8, 12), 8, (3,), padding=((1, 1),), groups=4),
    "three-axes": Case((2, 4, 5, 6, 5), 8, (2, 3, 3), (1, 2, 1), ((0, 0), (1, 1), (1, 0))),
}
LAYOUTS = ["any", "row_major", "channels_last"]


def taps(case: Case):  # type: ignore[no-untyped-def]
    """For each tap of the kernel: its index, and what it sees of the padded input."""
    for tap in np.ndindex(case.kernel):
        yield (
            tap,
            tuple(
                slice(k * gap, k * gap + (places - 1) * step + 1, step)
                for k, gap, step, places in zip(tap, case.gaps, case.steps, case.dst[2:])
            ),
        )


def grouped(array: np.ndarray, groups: int) -> np.ndarray:
    """Split the second axis: (batch, groups, channels / groups, *sizes), in float64."""
    shape = (array.shape[0], groups, array.shape[1] // groups, *array.shape[2:])
    return array.astype(np.float64).reshape(shape)


def padded(case: Case, src: np.ndarray) -> np.ndarray:
    return np.pad(grouped(src, case.groups), [(0, 0)] * 3 + list(case.pads))


def filters_of(case: Case, weights: np.ndarray) -> np.ndarray:
    """Give the weights with an axis of groups, in float64."""
    per_group = (case.groups, case.filters // case.groups, case.src[1] // case.groups)
    return weights.astype(np.float64).reshape(*per_group, *case.kernel)


def forward(case: Case, src: np.ndarray, weights: np.ndarray) -> np.ndarray:
    x, w = padded(case, src), filters_of(case, weights)
    out = 0.0
    for tap, seen in taps(case):
        part = w[(slice(None),) * 3 + tap]
        out = out + np.einsum("ngc...,gfc->ngf...", x[(slice(None),) * 3 + seen], part)
    return np.reshape(out, case.dst)


def backward_data(case: Case, weights: np.ndarray, diff_dst: np.ndarray) -> np.ndarray:
    w, g = filters_of(case, weights), grouped(diff_dst, case.groups)
    out = np.zeros_like(padded(case, np.zeros(case.src)))
    for tap, seen in taps(case):
        part = w[(slice(None),) * 3 + tap]
        out[(slice(None),) * 3 + seen] += np.einsum("ngf...,gfc->ngc...", g, part)
    inside = tuple(slice(low, low + n) for (low, _), n in zip(case.pads, case.src[2:]))
    return out[(slice(None),) * 3 + inside].reshape(case.src)


def backward_weights(case: Case, src: np.ndarray, diff_dst: np.ndarray) -> np.ndarray:
    x, g = padded(case, src), grouped(diff_dst, case.groups)
    out = filters_of(case, np.zeros(case.weights))
    rank = len(case.kernel)
    letters = "xyz"[:rank]
    for tap, seen in taps(case):
        part = np.einsum(f"ngf{letters},ngc{letters}->gfc", g, x[(slice(None),) * 3 + seen])
        out[(slice(None),) * 3 + tap] = part
    return out.reshape(case.weights)


def test_the_reference_agrees_with_scipy(rng: np.random.Generator) -> None:
    case = Case((1, 2, 6, 7), 1, (3, 2))
    src, weights = rng.standard_normal(case.src), rng.standard_normal(case.weights)
    expected = sum(signal.correlate(src[0, c], weights[0, c], "valid") for c in range(2))
    assert np.allclose(forward(case, src, weights)[0, 0], expected)


@pytest.mark.parametrize("name", CASES)
def test_the_references_are_adjoint(name: str, rng: np.random.Generator) -> None:
    case = CASES[name]
    src, weights, g = (rng.standard_normal(d) for d in (case.src, case.weights, case.dst))
    value = np.vdot(forward(case, src, weights), g)
    assert np.isclose(np.vdot(src, backward_data(case, weights, g)), value)
    assert np.isclose(np.vdot(weights, backward_weights(case, src, g)), value)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CASES)
class TestEveryGeometry:
    @where_implemented
    def test_forward(self, name: str, layout: str, dtype: str, rng: np.random.Generator) -> None:
        case = CASES[name]
        primitive = convolution(
            described(case.src, dtype, layout),
            Descriptor(case.weights, dtype),
            Descriptor.dense((case.filters,)),
            described(case.dst, dtype, layout),
            case.window,
            training=layout == "any",
        )
        src, weights = normal(rng, case.src, dtype), normal(rng, case.weights, dtype)
        bias = normal(rng, (case.filters,), "float32")
        out = run(primitive, src=src, weights=weights, bias=bias)
        expected = forward(case, src, weights)
        expected += bias.astype(np.float64).reshape(-1, *(1,) * len(case.kernel))
        assert_close(out["dst"], expected, "contract")

    @where_implemented
    def test_backward_data(
        self, name: str, layout: str, dtype: str, rng: np.random.Generator
    ) -> None:
        case = CASES[name]
        primitive = convolution_backward_data(
            described(case.src, dtype, layout),
            Descriptor(case.weights, dtype),
            described(case.dst, dtype, layout),
            case.window,
        )
        weights, g = normal(rng, case.weights, dtype), normal(rng, case.dst, dtype)
        out = run(primitive, weights=weights, diff_dst=g)
        assert_close(out["diff_src"], backward_data(case, weights, g), "contract")

    @where_implemented
    def test_backward_weights(
        self, name: str, layout: str, dtype: str, rng: np.random.Generator
    ) -> None:
        case = CASES[name]
        with_bias = layout != "row_major"
        primitive = convolution_backward_weights(
            described(case.src, dtype, layout),
            Descriptor(case.weights),  # float32 also for bfloat16: master weights
            Descriptor.dense((case.filters,)) if with_bias else None,
            described(case.dst, dtype, layout),
            case.window,
        )
        src, g = normal(rng, case.src, dtype), normal(rng, case.dst, dtype)
        out = run(primitive, src=src, diff_dst=g)
        assert_close(out["diff_weights"], backward_weights(case, src, g), "contract")
        assert (primitive.diff_bias is not None) is with_bias
        if with_bias:
            axes = (0, *range(2, g.ndim))
            assert_close(out["diff_bias"], g.astype(np.float64).sum(axes), "contract")


def test_given_layouts_are_kept_and_open_ones_are_chosen() -> None:
    case = CASES["plain"]
    given = described(case.src, "float32", "channels_last")
    primitive = convolution(
        given, Descriptor(case.weights), None, Descriptor(case.dst), case.window
    )
    assert primitive.src == given
    assert primitive.weights is not None
    assert not primitive.weights.is_any
    assert primitive.dst is not None
    assert not primitive.dst.is_any
    absent = (primitive.bias, primitive.diff_src, primitive.diff_weights, primitive.diff_dst)
    assert absent == (None,) * 4
    assert primitive.workspace is None
    assert primitive.diff_bias is None
    assert ":" in primitive.implementation


# -- dtypes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@where_implemented
def test_halves_with_float32_result(dtype: str, rng: np.random.Generator) -> None:
    case = CASES["plain"]
    operands = [Descriptor(case.src, dtype), Descriptor(case.weights, dtype)]
    primitive = convolution(*operands, None, Descriptor(case.dst), case.window)
    src, weights = normal(rng, case.src, dtype), normal(rng, case.weights, dtype)
    out = run(primitive, src=src, weights=weights)
    assert out["dst"].dtype == np.float32
    assert_close(out["dst"], forward(case, src, weights), "contract")


@pytest.mark.parametrize("signed", [False, True])
def test_integers_are_exact(signed: bool, rng: np.random.Generator) -> None:
    case = CASES["plain"]
    dtype = "int8" if signed else "uint8"
    primitive = convolution(
        described(case.src, dtype, "channels_last"),
        described(case.weights, "int8", "row_major"),
        None,
        described(case.dst, "int32", "channels_last"),
        case.window,
    )
    src, weights = normal(rng, case.src, dtype), normal(rng, case.weights, "int8")
    out = run(primitive, src=src, weights=weights)
    assert_close(out["dst"], forward(case, src, weights).astype(np.int32), "exact")


# -- post-ops -------------------------------------------------------------------------------------

PLAIN = CASES["plain"]
CHANNEL = (1, PLAIN.filters, 1, 1)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@where_implemented
def test_post_ops_in_their_order(layout: str, dtype: str, rng: np.random.Generator) -> None:
    scale, shift = Descriptor.dense(CHANNEL), described(PLAIN.dst, dtype, "row_major")
    primitive = convolution(
        described(PLAIN.src, dtype, layout),
        Descriptor(PLAIN.weights, dtype),
        None,
        described(PLAIN.dst, dtype, layout),
        PLAIN.window,
        post_ops=[Binary("mul", scale), Sum(0.5), Relu(), Binary("add", shift)],
    )
    arrays = {
        "src": normal(rng, PLAIN.src, dtype),
        "weights": normal(rng, PLAIN.weights, dtype),
        "dst": normal(rng, PLAIN.dst, dtype),
        "post_op_0": normal(rng, CHANNEL, "float32"),
        "post_op_3": normal(rng, PLAIN.dst, dtype),
    }
    wide = {role: array.astype(np.float64) for role, array in arrays.items()}
    expected = forward(PLAIN, arrays["src"], arrays["weights"]) * wide["post_op_0"]
    expected = np.maximum(expected + 0.5 * wide["dst"], 0) + wide["post_op_3"]
    assert primitive.arguments["post_op_3"] == shift
    assert_close(run(primitive, **arrays)["dst"], expected, "contract")


def test_relu_with_a_slope_and_nan(rng: np.random.Generator) -> None:
    primitive = convolution(
        Descriptor(PLAIN.src),
        Descriptor(PLAIN.weights),
        None,
        Descriptor(PLAIN.dst),
        post_ops=[Relu(0.25)],
    )
    src, weights = normal(rng, PLAIN.src, "float32"), normal(rng, PLAIN.weights, "float32")
    src[0] = np.nan
    expected = forward(PLAIN, src, weights)
    expected = np.where(expected > 0, expected, 0.25 * expected)
    assert_close(run(primitive, src=src, weights=weights)["dst"], expected, "contract")


def test_fpmath_is_asked_for_by_name() -> None:
    operands = (Descriptor(PLAIN.src), Descriptor(PLAIN.weights), None, Descriptor(PLAIN.dst))
    assert convolution(*operands, fpmath="bf16").implementation
    with pytest.raises(BackendError, match=r"fpmath must be one of strict, bf16, .*, got 'fast'"):
        convolution(*operands, fpmath="fast")
    with pytest.raises(BackendError, match="binary post-op is one of add, mul, got 'pow'"):
        convolution(*operands, post_ops=[Binary("pow", Descriptor.dense(CHANNEL))])


@pytest.mark.parametrize("dims", [(1, 32), (1, 31, 1, 1), (2, 32, 5, 4, 1)])
def test_the_operand_of_a_post_op_must_broadcast_to_the_result(dims: tuple[int, ...]) -> None:
    operands = (Descriptor(PLAIN.src), Descriptor(PLAIN.weights), None, Descriptor(PLAIN.dst))
    with pytest.raises(BackendError, match="post_op_1 cannot be broadcast to dst") as caught:
        convolution(*operands, post_ops=[Relu(), Binary("add", Descriptor.dense(dims))])
    assert any(line.startswith("post_op_1 : float32") for line in caught.value.details)


def test_a_slow_reference_implementation_can_be_told() -> None:
    assert not convolution(
        Descriptor(PLAIN.src), Descriptor(PLAIN.weights), None, Descriptor(PLAIN.dst)
    ).is_reference
    gaps = tuple(4 * stride for stride in row_major(PLAIN.src))
    slow = convolution(
        Descriptor(PLAIN.src, "float32", gaps),
        Descriptor(PLAIN.weights),
        None,
        Descriptor(PLAIN.dst),
    )
    assert slow.is_reference


# -- errors ---------------------------------------------------------------------------------------


def test_operands_that_do_not_fit_are_named_with_their_types() -> None:
    with pytest.raises(BackendError) as caught:
        convolution(
            Descriptor((2, 16, 7, 6)),
            Descriptor((32, 16, 3, 3), "bfloat16"),
            Descriptor.dense((32,)),
            described((2, 32, 5, 5), "float32", "channels_last"),
        )
    assert not isinstance(caught.value, UnimplementedError)
    assert str(caught.value).splitlines() == [
        f"convolution: oneDNN {Descriptor((1,)).library.version} answered invalid_arguments.",
        "  src     : float32[2, 16, 7, 6] any",
        "  weights : bfloat16[32, 16, 3, 3] any",
        "  bias    : float32[32] a",
        "  dst     : float32[2, 32, 5, 5] acdb",
    ]


def test_what_is_not_implemented_is_told_apart() -> None:
    with pytest.raises(UnimplementedError, match=r"convolution: oneDNN .* answered unimplemented"):
        convolution(
            Descriptor((2, 16, 7, 6), "bfloat16"),
            Descriptor((32, 16, 3, 3)),
            None,
            Descriptor((2, 32, 5, 4)),
        )


@pytest.mark.parametrize(
    "window", [Window(stride=(1,)), Window(padding=((0, 0),) * 3), Window(dilation=(1, 1, 1))]
)
def test_a_window_names_each_axis(window: Window) -> None:
    with pytest.raises(BackendError, match="must name each of 2 spatial axes"):
        convolution(
            Descriptor(PLAIN.src), Descriptor(PLAIN.weights), None, Descriptor(PLAIN.dst), window
        )


@pytest.mark.parametrize("batch", [0, 1])
def test_an_empty_batch_is_no_special_case(batch: int, rng: np.random.Generator) -> None:
    case = Case((batch, 16, 6, 6), 16, (3, 3))
    primitive = convolution(
        described(case.src, "float32", "channels_last"),
        Descriptor(case.weights),
        None,
        described(case.dst, "float32", "channels_last"),
    )
    src, weights = normal(rng, case.src, "float32"), normal(rng, case.weights, "float32")
    out = run(primitive, src=src, weights=weights)
    assert out["dst"].shape == case.dst
    assert_close(out["dst"], forward(case, src, weights), "contract")
