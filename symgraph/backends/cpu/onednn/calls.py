"""A computation that the library has chosen (`Primitive`), and one bound to addresses (`Call`)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from symgraph.backends.cpu.onednn.attributes import Attributes
from symgraph.backends.cpu.onednn.declarations import (
    ARGUMENTS,
    QUERY_ARGUMENT,
    QUERY_IMPLEMENTATION,
    QUERY_NDIMS,
    post_op_argument,
)
from symgraph.backends.cpu.onednn.descriptors import Descriptor, Dims
from symgraph.backends.cpu.onednn.library import Library
from symgraph.errors import BackendError

# Makes a primitive descriptor: takes where to put its handle, and the attributes; gives a status.
Create = Callable[[Any, Any], int]


def describe(
    name: str,
    operands: Mapping[str, Descriptor | None],
    create: Create,
    attributes: Attributes,
) -> Primitive:
    """Let the library choose an implementation and the layouts that were left open.

    Raises `UnimplementedError` if it has none, `BackendError` if the operands do not fit.
    """
    given = {role: operand for role, operand in operands.items() if operand is not None}
    extra = {f"post_op_{position}": each for position, each in attributes.operands().items()}
    every = {**given, **extra}
    library = _one_library(name, every)
    for role, operand in extra.items():
        if not _broadcasts(operand.dims, given["dst"].dims):
            raise BackendError(f"{name}: {role} cannot be broadcast to dst.", details=_lines(every))
    made = library.ffi.new("handle *")
    with attributes.handle(library) as attr:
        status = create(made, attr)
    library.check(status, name, lambda: _lines(every))
    return Primitive(library, made[0], name, list(extra))


def _one_library(name: str, operands: Mapping[str, Descriptor]) -> Library:
    libraries = {operand.library for operand in operands.values()}
    if len(libraries) != 1:
        raise BackendError(f"{name}: its descriptors were made by different libraries.")
    return libraries.pop()


def _broadcasts(operand: Dims, dst: Dims) -> bool:
    """Tell whether an operand has the axes of dst, each of its size or of size one."""
    return len(operand) == len(dst) and all(a in (1, b) for a, b in zip(operand, dst))


def _lines(operands: Mapping[str, Descriptor]) -> list[str]:
    width = max(map(len, operands), default=0)
    return [f"{role.ljust(width)} : {operand}" for role, operand in operands.items()]


class Primitive:
    """One computation with chosen layouts; its kernel is compiled when it is first bound.

    `arguments` has the descriptor of each operand by its name, and of `workspace` (what a forward
    primitive keeps for its backward one) and `scratchpad` (memory for the duration of a call) where
    they are needed. The same primitive may be bound often, from several threads.
    """

    def __init__(self, library: Library, handle: Any, name: str, post_ops: list[str]) -> None:
        self.library = library
        self.name = name
        self.description = handle
        library.own(self, library.lib.dnnl_primitive_desc_destroy, handle)
        self._numbers = {**ARGUMENTS, **{role: _post_op_number(role) for role in post_ops}}
        found = {role: self._query(number) for role, number in self._numbers.items()}
        self.arguments = {role: each for role, each in found.items() if each is not None}
        self._lock = threading.Lock()
        self._compiled: Any = None

    def _query(self, number: int) -> Descriptor | None:
        lib, ndim = self.library.lib, self.library.ffi.new("int *")
        found = lib.dnnl_primitive_desc_query_md(self.description, QUERY_ARGUMENT, number)
        if (
            found == self.library.nothing
            or lib.dnnl_memory_desc_query(found, QUERY_NDIMS, ndim)
            or not ndim[0]
        ):
            return None
        copy = self.library.create(self.name, lib.dnnl_memory_desc_clone, found)
        return Descriptor.adopt(self.library, copy)

    @property
    def src(self) -> Descriptor | None:
        """The descriptor of the input."""
        return self.arguments.get("src")

    @property
    def weights(self) -> Descriptor | None:
        """The descriptor of the weights, of the second factor of a product."""
        return self.arguments.get("weights")

    @property
    def bias(self) -> Descriptor | None:
        """The descriptor of the bias."""
        return self.arguments.get("bias")

    @property
    def dst(self) -> Descriptor | None:
        """The descriptor of the result."""
        return self.arguments.get("dst")

    @property
    def diff_src(self) -> Descriptor | None:
        """The descriptor of the gradient by the input."""
        return self.arguments.get("diff_src")

    @property
    def diff_weights(self) -> Descriptor | None:
        """The descriptor of the gradient by the weights."""
        return self.arguments.get("diff_weights")

    @property
    def diff_bias(self) -> Descriptor | None:
        """The descriptor of the gradient by the bias."""
        return self.arguments.get("diff_bias")

    @property
    def diff_dst(self) -> Descriptor | None:
        """The descriptor of the gradient by the result."""
        return self.arguments.get("diff_dst")

    @property
    def workspace(self) -> Descriptor | None:
        """The descriptor of what a forward primitive keeps for its backward one."""
        return self.arguments.get("workspace")

    @property
    def scratchpad(self) -> Descriptor | None:
        """The descriptor of the memory that is needed for the duration of a call."""
        return self.arguments.get("scratchpad")

    @property
    def implementation(self) -> str:
        """The library's name of what it will run, as `brgconv:avx512_core_amx`."""
        text = self.library.ffi.new("char **")
        query = self.library.lib.dnnl_primitive_desc_query
        self.library.check(query(self.description, QUERY_IMPLEMENTATION, 0, text), self.name)
        return str(self.library.ffi.string(text[0]).decode())

    @property
    def is_reference(self) -> bool:
        """Whether the library fell back on plain loops, which are many times slower."""
        return self.implementation.startswith("ref")

    def compile(self) -> Any:
        """Give the handle of the primitive, compiling its kernel at the first call."""
        with self._lock:
            if self._compiled is None:
                lib = self.library.lib
                made = self.library.create(self.name, lib.dnnl_primitive_create, self.description)
                self.library.own(self, lib.dnnl_primitive_destroy, made)
                self._compiled = made
            return self._compiled

    def bind(self, buffers: Mapping[str, tuple[Descriptor, int]]) -> Call:
        """Bind every argument to an address; the caller keeps the memory alive.

        An address may be 0 until `Call.rebind` gives it. Raises `BackendError` if arguments are
        missing or surplus, or lie otherwise than this primitive has chosen.
        """
        self.library.check_process()
        wrong = []
        for role in sorted({*self.arguments} ^ {*buffers}):
            wrong.append(f"{role} : {'missing' if role in self.arguments else 'not an argument'}")
        for role, wanted in self.arguments.items():
            if role in buffers and buffers[role][0] != wanted:
                wrong.append(f"{role} : is {buffers[role][0]}, must be {wanted}")
        if wrong:
            raise BackendError(f"{self.name}: the buffers do not fit.", details=wrong)
        return Call(self, {role: buffers[role][1] for role in self.arguments})

    def __repr__(self) -> str:
        return "\n  ".join([f"{self.name} ({self.implementation})", *_lines(self.arguments)])


def _post_op_number(role: str) -> int:
    return post_op_argument(int(role.removeprefix("post_op_")))


class Call:
    """A primitive with its arguments at addresses: for Python to call, or native code.

    `record` is int64: [address of dnnl_primitive_execute, primitive, stream, number of arguments,
    address of the arguments], which are what the C function is given, in this order; it returns 0
    when all went well. One thread may run a call at a time. The record is valid while the call is
    alive.
    """

    def __init__(self, primitive: Primitive, addresses: Mapping[str, int]) -> None:
        library = primitive.library
        lib, ffi = library.lib, library.ffi
        self.primitive = primitive
        self._compiled = primitive.compile()
        self._stream = library.create_stream()
        library.own(self, lib.dnnl_stream_destroy, self._stream)
        self._arguments = ffi.new("exec_arg[]", len(addresses))
        self._memories: dict[str, Any] = {}
        for slot, (role, address) in zip(self._arguments, addresses.items()):
            handle = library.create(
                f"{primitive.name}: memory of {role}",
                lib.dnnl_memory_create,
                primitive.arguments[role].handle,
                library.engine,
                ffi.cast("void *", address),
            )
            library.own(self, lib.dnnl_memory_destroy, handle)
            self._memories[role] = handle
            slot.arg, slot.memory = primitive._numbers[role], handle
        self._unset = {
            role
            for role, address in addresses.items()
            if not address and primitive.arguments[role].size
        }
        self.record: npt.NDArray[np.int64] = np.array(
            [
                library.address("dnnl_primitive_execute"),
                self._number(self._compiled),
                self._number(self._stream),
                len(addresses),
                self._number(self._arguments),
            ],
            dtype=np.int64,
        )
        self.record.flags.writeable = False

    def _number(self, pointer: Any) -> int:
        return int(self.primitive.library.ffi.cast("intptr_t", pointer))

    def memory(self, role: str) -> int:
        """Give the handle of an argument's memory, for `dnnl_memory_set_data_handle`."""
        return self._number(self._find(role))

    def _find(self, role: str) -> Any:
        if role not in self._memories:
            raise BackendError(
                f"{self.primitive.name}: {role} is not an argument, only"
                f" {', '.join(self._memories)}."
            )
        return self._memories[role]

    def rebind(self, role: str, address: int) -> None:
        """Move an argument to another address."""
        library = self.primitive.library
        memory = self._find(role)
        status = library.lib.dnnl_memory_set_data_handle(
            memory, library.ffi.cast("void *", address)
        )
        library.check(status, f"{self.primitive.name}: memory of {role}")
        if address or not self.primitive.arguments[role].size:
            self._unset.discard(role)
        else:
            self._unset.add(role)

    def __call__(self) -> None:
        """Run it; raises `BackendError` if the library fails or an address is still 0."""
        library = self.primitive.library
        library.check_process()
        if self._unset:
            raise BackendError(
                f"{self.primitive.name}: no address yet for {', '.join(sorted(self._unset))}."
            )
        status = library.lib.dnnl_primitive_execute(
            self._compiled, self._stream, len(self._arguments), self._arguments
        )
        library.check(status, self.primitive.name, lambda: _lines(self.primitive.arguments))
