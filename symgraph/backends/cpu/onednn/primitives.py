"""The computations: each function takes descriptors, open or fixed, and gives a `Primitive`.

Operands are (batch, channels, *sizes), weights (filters, channels, *kernel), with groups
(groups, filters / groups, channels / groups, *kernel): weights that have one axis more than the
input are grouped. A dilation of 1 is dense; padding is a (low, high) pair for each spatial axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from symgraph.backends.cpu.onednn.attributes import Attributes, PostOp
from symgraph.backends.cpu.onednn.calls import Primitive, describe
from symgraph.backends.cpu.onednn.declarations import (
    DIRECT_CONVOLUTION,
    INFERENCE,
    MOST_AXES,
    POOLING,
    TRAINING,
)
from symgraph.backends.cpu.onednn.descriptors import Descriptor
from symgraph.backends.cpu.onednn.library import Library
from symgraph.errors import BackendError
from symgraph.frozen import frozen

Pads = tuple[tuple[int, int], ...]


@frozen
class Window:
    """How windows slide: one number, or one pair, for each spatial axis; None where all are one."""

    stride: tuple[int, ...] | None = None
    padding: Pads | None = None
    dilation: tuple[int, ...] | None = None

    def numbers(self, name: str, library: Library, rank: int) -> tuple[Any, Any, Any, Any]:
        """Give strides, dilations, low and high padding as the library takes them."""
        ones = (1,) * rank
        stride, dilation = self.stride or ones, self.dilation or ones
        padding = self.padding or ((0, 0),) * rank
        if {len(stride), len(dilation), len(padding)} != {rank}:
            raise BackendError(f"{name}: {self} must name each of {rank} spatial axes.")
        low, high = zip(*padding)
        lists = stride, [step - 1 for step in dilation], low, high
        return tuple(_numbers(library, values) for values in lists)


DENSE = Window()


def _numbers(library: Library, values: Sequence[int]) -> Any:
    return library.ffi.new(f"int64_t[{MOST_AXES}]", list(values))


def _handle(library: Library, descriptor: Descriptor | None) -> Any:
    return library.nothing if descriptor is None else descriptor.handle


def _propagation(training: bool) -> int:
    return TRAINING if training else INFERENCE


def _pooling(algorithm: str) -> int:
    if algorithm not in POOLING:
        raise BackendError(f"pooling: one of {', '.join(POOLING)} is needed, got {algorithm!r}.")
    return POOLING[algorithm]


def _kernel(name: str, kernel: Sequence[int], src: Descriptor) -> Any:
    if len(kernel) != len(src.dims) - 2:
        raise BackendError(
            f"{name}: kernel {tuple(kernel)} must have one size for each of"
            f" {len(src.dims) - 2} spatial axes."
        )
    return _numbers(src.library, kernel)


def convolution(
    src: Descriptor,
    weights: Descriptor,
    bias: Descriptor | None,
    dst: Descriptor,
    window: Window = DENSE,
    *,
    training: bool = True,
    post_ops: Sequence[PostOp] = (),
    fpmath: str = "strict",
) -> Primitive:
    """Convolve: dst = src * weights + bias, then the post-ops."""
    name = "convolution"
    library = src.library
    numbers = window.numbers(name, library, len(src.dims) - 2)
    return describe(
        name,
        {"src": src, "weights": weights, "bias": bias, "dst": dst},
        lambda made, attr: library.lib.dnnl_convolution_forward_primitive_desc_create(
            made, library.engine, _propagation(training), DIRECT_CONVOLUTION,
            src.handle, weights.handle, _handle(library, bias), dst.handle, *numbers, attr,
        ),
        Attributes(tuple(post_ops), fpmath),
    )  # fmt: skip


def convolution_backward_data(
    diff_src: Descriptor,
    weights: Descriptor,
    diff_dst: Descriptor,
    window: Window = DENSE,
    *,
    fpmath: str = "strict",
) -> Primitive:
    """Give the gradient of a convolution by its input; also a transposed convolution."""
    name = "convolution backward data"
    library = diff_src.library
    numbers = window.numbers(name, library, len(diff_src.dims) - 2)
    return describe(
        name,
        {"diff_src": diff_src, "weights": weights, "diff_dst": diff_dst},
        lambda made, attr: library.lib.dnnl_convolution_backward_data_primitive_desc_create(
            made, library.engine, DIRECT_CONVOLUTION,
            diff_src.handle, weights.handle, diff_dst.handle, *numbers, library.nothing, attr,
        ),
        Attributes(fpmath=fpmath),
    )  # fmt: skip


def convolution_backward_weights(
    src: Descriptor,
    diff_weights: Descriptor,
    diff_bias: Descriptor | None,
    diff_dst: Descriptor,
    window: Window = DENSE,
    *,
    fpmath: str = "strict",
) -> Primitive:
    """Give the gradients of a convolution by its weights and, with `diff_bias`, by its bias."""
    name = "convolution backward weights"
    library = src.library
    numbers = window.numbers(name, library, len(src.dims) - 2)
    return describe(
        name,
        {"src": src, "diff_weights": diff_weights, "diff_bias": diff_bias, "diff_dst": diff_dst},
        lambda made, attr: library.lib.dnnl_convolution_backward_weights_primitive_desc_create(
            made, library.engine, DIRECT_CONVOLUTION, src.handle, diff_weights.handle,
            _handle(library, diff_bias), diff_dst.handle, *numbers, library.nothing, attr,
        ),
        Attributes(fpmath=fpmath),
    )  # fmt: skip


def matmul(
    src: Descriptor,
    weights: Descriptor,
    bias: Descriptor | None,
    dst: Descriptor,
    *,
    post_ops: Sequence[PostOp] = (),
    fpmath: str = "strict",
) -> Primitive:
    """Multiply: dst[..., m, n] = sum over k of src[..., m, k] weights[..., k, n], plus bias.

    All have the same number of axes; leading axes of size one are broadcast, and so is any axis of
    size one of the bias. A transposed factor is one with other strides (`Descriptor.permute`).
    """
    library = src.library
    return describe(
        "matmul",
        {"src": src, "weights": weights, "bias": bias, "dst": dst},
        lambda made, attr: library.lib.dnnl_matmul_primitive_desc_create(
            made,
            library.engine,
            src.handle,
            weights.handle,
            _handle(library, bias),
            dst.handle,
            attr,
        ),
        Attributes(tuple(post_ops), fpmath),
    )


def inner_product(
    src: Descriptor,
    weights: Descriptor,
    bias: Descriptor | None,
    dst: Descriptor,
    *,
    training: bool = True,
    post_ops: Sequence[PostOp] = (),
    fpmath: str = "strict",
) -> Primitive:
    """Multiply by a transposed matrix: dst[b, o] = sum over i of src[b, i] weights[o, i] + bias[o].

    i may be several axes. Chosen over `matmul` for training: its three directions agree on layouts.
    """
    library = src.library
    return describe(
        "inner product",
        {"src": src, "weights": weights, "bias": bias, "dst": dst},
        lambda made, attr: library.lib.dnnl_inner_product_forward_primitive_desc_create(
            made, library.engine, _propagation(training), src.handle, weights.handle,
            _handle(library, bias), dst.handle, attr,
        ),
        Attributes(tuple(post_ops), fpmath),
    )  # fmt: skip


def inner_product_backward_data(
    diff_src: Descriptor, weights: Descriptor, diff_dst: Descriptor, *, fpmath: str = "strict"
) -> Primitive:
    """Give the gradient of an inner product by its input."""
    library = diff_src.library
    return describe(
        "inner product backward data",
        {"diff_src": diff_src, "weights": weights, "diff_dst": diff_dst},
        lambda made, attr: library.lib.dnnl_inner_product_backward_data_primitive_desc_create(
            made,
            library.engine,
            diff_src.handle,
            weights.handle,
            diff_dst.handle,
            library.nothing,
            attr,
        ),
        Attributes(fpmath=fpmath),
    )


def inner_product_backward_weights(
    src: Descriptor,
    diff_weights: Descriptor,
    diff_bias: Descriptor | None,
    diff_dst: Descriptor,
    *,
    fpmath: str = "strict",
) -> Primitive:
    """Give the gradients of an inner product by its weights and, with `diff_bias`, by its bias."""
    library = src.library
    return describe(
        "inner product backward weights",
        {"src": src, "diff_weights": diff_weights, "diff_bias": diff_bias, "diff_dst": diff_dst},
        lambda made, attr: library.lib.dnnl_inner_product_backward_weights_primitive_desc_create(
            made, library.engine, src.handle, diff_weights.handle, _handle(library, diff_bias),
            diff_dst.handle, library.nothing, attr,
        ),
        Attributes(fpmath=fpmath),
    )  # fmt: skip


def pooling(
    algorithm: str,
    src: Descriptor,
    dst: Descriptor,
    kernel: Sequence[int],
    window: Window = DENSE,
    *,
    training: bool = True,
    post_ops: Sequence[PostOp] = (),
) -> Primitive:
    """Pool with algorithm `max`, `mean` (of the elements inside) or `mean_with_padding`.

    `max` in training keeps in `workspace` which element of each window it took.
    """
    name = f"{algorithm} pooling"
    library, number = src.library, _pooling(algorithm)
    steps, gaps, low, high = window.numbers(name, library, len(src.dims) - 2)
    sizes = _kernel(name, kernel, src)
    return describe(
        name,
        {"src": src, "dst": dst},
        lambda made, attr: library.lib.dnnl_pooling_forward_primitive_desc_create(
            made, library.engine, _propagation(training), number, src.handle, dst.handle,
            steps, sizes, gaps, low, high, attr,
        ),
        Attributes(tuple(post_ops)),
    )  # fmt: skip


def pooling_backward(
    algorithm: str,
    diff_src: Descriptor,
    diff_dst: Descriptor,
    kernel: Sequence[int],
    window: Window = DENSE,
) -> Primitive:
    """Give the gradient of a pooling by its input.

    For `max`, `workspace` is what the forward primitive wrote, so `diff_dst` must lie as the
    forward dst did.
    """
    name = f"{algorithm} pooling backward"
    library, number = diff_src.library, _pooling(algorithm)
    steps, gaps, low, high = window.numbers(name, library, len(diff_src.dims) - 2)
    sizes = _kernel(name, kernel, diff_src)
    # The library reads the layout of the workspace off the forward primitive, whose dst decides it.
    dense = Descriptor.dense(diff_src.dims, diff_src.dtype, library)
    src = dense if diff_src.is_any else diff_src
    forward = pooling(algorithm, src, diff_dst, kernel, window)
    return describe(
        name,
        {"diff_src": diff_src, "diff_dst": diff_dst},
        lambda made, attr: library.lib.dnnl_pooling_backward_primitive_desc_create(
            made, library.engine, number, diff_src.handle, diff_dst.handle,
            steps, sizes, gaps, low, high, forward.description, attr,
        ),
        Attributes(),
    )  # fmt: skip


def reorder(
    src: Descriptor, dst: Descriptor, *, post_ops: Sequence[PostOp] = (), fpmath: str = "strict"
) -> Primitive:
    """Copy into another layout, another dtype, or both."""
    library = src.library
    return describe(
        "reorder",
        {"src": src, "dst": dst},
        lambda made, attr: library.lib.dnnl_reorder_primitive_desc_create(
            made, src.handle, library.engine, dst.handle, library.engine, attr
        ),
        Attributes(tuple(post_ops), fpmath),
    )
