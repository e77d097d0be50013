"""What a primitive does besides its own computation: post-ops, and how floats may be rounded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from symgraph.backends.cpu.onednn.declarations import BINARY, FPMATH, RELU, USER_SCRATCHPAD
from symgraph.backends.cpu.onednn.descriptors import Descriptor
from symgraph.backends.cpu.onednn.library import Library
from symgraph.errors import BackendError
from symgraph.frozen import frozen


@frozen
class Relu:
    """`x if x > 0 else slope * x`."""

    slope: float = 0.0


@frozen
class Sum:
    """`x + scale * what dst held before`: a residual that is already in place."""

    scale: float = 1.0


@frozen
class Binary:
    """`x + operand` or `x * operand`, with operation `add` or `mul`.

    The operand has the axes of dst, where an axis of size one is broadcast. It is bound under the
    name `post_op_0` if it stands first among the post-ops, and so on.
    """

    operation: str
    operand: Descriptor


PostOp = Relu | Sum | Binary


@frozen
class Attributes:
    """The post-ops in their order, and `fpmath`: the dtype to which float32 may be rounded inside.

    `strict` rounds nothing; `bf16`, `f16`, `tf32` and `any` allow faster, less exact products.
    """

    post_ops: tuple[PostOp, ...] = ()
    fpmath: str = "strict"

    def __post_init__(self) -> None:
        if self.fpmath not in FPMATH:
            raise BackendError(
                f"oneDNN: fpmath must be one of {', '.join(FPMATH)}, got {self.fpmath!r}."
            )
        for post_op in self.post_ops:
            if isinstance(post_op, Binary) and post_op.operation not in BINARY:
                raise BackendError(
                    f"oneDNN: a binary post-op is one of {', '.join(BINARY)},"
                    f" got {post_op.operation!r}."
                )

    def operands(self) -> dict[int, Descriptor]:
        """Give the operands of binary post-ops by the position of the post-op."""
        return {
            position: post_op.operand
            for position, post_op in enumerate(self.post_ops)
            if isinstance(post_op, Binary)
        }

    @contextmanager
    def handle(self, library: Library) -> Iterator[Any]:
        """Give the library's object for as long as the context lasts."""
        lib = library.lib
        attr = library.create("attributes", lib.dnnl_primitive_attr_create)
        try:
            library.check(
                lib.dnnl_primitive_attr_set_scratchpad_mode(attr, USER_SCRATCHPAD),
                "scratchpad mode",
            )
            library.check(
                lib.dnnl_primitive_attr_set_fpmath_mode(attr, FPMATH[self.fpmath]), "fpmath mode"
            )
            if self.post_ops:
                _set_post_ops(library, attr, self.post_ops)
            yield attr
        finally:
            lib.dnnl_primitive_attr_destroy(attr)


def _set_post_ops(library: Library, attr: Any, post_ops: Sequence[PostOp]) -> None:
    lib = library.lib
    chain = library.create("post-ops", lib.dnnl_post_ops_create)
    try:
        for post_op in post_ops:
            match post_op:
                case Relu():
                    status = lib.dnnl_post_ops_append_eltwise(chain, RELU, post_op.slope, 0.0)
                case Sum():
                    status = lib.dnnl_post_ops_append_sum(chain, post_op.scale, 0, 0)
                case Binary():
                    number, operand = BINARY[post_op.operation], post_op.operand
                    status = lib.dnnl_post_ops_append_binary(chain, number, operand.handle)
            library.check(status, f"post-op {post_op}")
        library.check(lib.dnnl_primitive_attr_set_post_ops(attr, chain), f"post-ops {post_ops}")
    finally:
        lib.dnnl_post_ops_destroy(chain)
