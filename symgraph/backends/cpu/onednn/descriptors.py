"""How a tensor lies in memory: `Descriptor`, and the `Key` that tells it without the library.

A descriptor is *any* while a primitive may still choose, *plain* if each axis has one stride, and
*blocked* if axes are cut into blocks, as (N, C/16, H, W, 16). The padding of a blocked tensor (its
channels 3..15 of 16) must hold zeros: what oneDNN writes does, other writers must see to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from symgraph.backends.cpu.onednn import tags
from symgraph.backends.cpu.onednn.declarations import (
    ANY_FORMAT,
    ANY_TAG,
    BLOCKED_FORMAT,
    DTYPES,
    MOST_AXES,
    QUERY_BLOCK_AXES,
    QUERY_BLOCK_COUNT,
    QUERY_BLOCK_SIZES,
    QUERY_DIMS,
    QUERY_DTYPE,
    QUERY_FORMAT_KIND,
    QUERY_NDIMS,
    QUERY_PADDED_DIMS,
    QUERY_STRIDES,
    SUCCESS,
)
from symgraph.backends.cpu.onednn.library import Library, UnimplementedError, load
from symgraph.errors import BackendError
from symgraph.frozen import frozen

Dims = tuple[int, ...]

_DTYPE_NAMES = {code: name for name, code in DTYPES.items()}


@frozen
class Key:
    """A descriptor in plain numbers: equal for equal descriptors, and enough to make one again.

    `strides` count elements, between the blocks of an axis that has blocks; it is empty for *any*.
    """

    dims: Dims
    dtype: str
    strides: Dims = ()
    padded_dims: Dims = ()
    blocks: tags.Blocks = ()

    @property
    def layout(self) -> str:
        """The layout in words, as `any`, `acdb`, `aBcd16b` or `ab strides (8, 2)`."""
        if not self.strides:
            return "any"
        axes = sorted(range(len(self.dims)), key=lambda axis: (-self.strides[axis], axis))
        name = tags.format_name("".join(chr(ord("a") + axis) for axis in axes), self.blocks)
        inner = 1
        for size, _ in self.blocks:
            inner *= size
        for axis in reversed(axes):
            if self.strides[axis] != inner:
                return f"{name} strides {self.strides}"
            cut = [size for size, blocked in self.blocks if blocked == axis]
            outer = (self.padded_dims or self.dims)[axis]
            for size in cut:
                outer //= size
            inner *= max(outer, 1)
        return name

    def __str__(self) -> str:
        dims = ", ".join(map(str, self.dims))
        return f"{self.dtype}[{dims}] {self.layout}"


def row_major(dims: Sequence[int]) -> Dims:
    """Give the strides of a C-contiguous array, in elements.

    >>> row_major((2, 3, 4))
    (12, 4, 1)
    """
    return _packed(dims, range(len(dims)))


def channels_last(dims: Sequence[int]) -> Dims:
    """Give the strides of (batch, channels, *sizes) with the channels innermost, in elements.

    >>> channels_last((2, 3, 5, 5))
    (75, 1, 15, 3)
    """
    return _packed(dims, (0, *range(2, len(dims)), 1))


def _packed(dims: Sequence[int], order: Sequence[int]) -> Dims:
    strides = [1] * len(dims)
    step = 1
    for axis in reversed(order):
        strides[axis] = step
        step *= max(dims[axis], 1)
    return tuple(strides)


class Descriptor:
    """The dims, dtype and layout of one operand, as the library holds it; immutable.

    `strides` are in elements; None leaves the layout to the primitive. Descriptors are equal if
    the library calls them equal: strides of axes of size one do not matter. `library` is the one
    that `load` gives unless another is named. Raises
    `UnimplementedError` for a dtype that oneDNN lacks, `BackendError` for impossible dims or
    strides, and if there is no library.
    """

    __slots__ = ("__weakref__", "_complete", "_key", "handle", "library")

    def __init__(
        self,
        dims: Sequence[int],
        dtype: str = "float32",
        strides: Sequence[int] | None = None,
        library: Library | None = None,
    ) -> None:
        library = library or load()
        key = Key(tuple(dims), dtype, () if strides is None else tuple(strides))
        code = _check(key, strides)
        sizes = _numbers(library, key.dims)
        if strides is None:
            create, last = library.lib.dnnl_memory_desc_create_with_tag, ANY_TAG
        else:
            free = _settle(key.dims, key.strides)
            create = library.lib.dnnl_memory_desc_create_with_strides
            last = _numbers(library, free)
        what = f"memory descriptor {key}"
        handle = library.create(what, create, len(key.dims), sizes, code, last)
        self._adopt(library, handle)

    def _adopt(self, library: Library, handle: Any) -> None:
        self.library = library
        self.handle = handle
        library.own(self, library.lib.dnnl_memory_desc_destroy, handle)
        self._key, self._complete = _read(library, handle)

    @classmethod
    def adopt(cls, library: Library, handle: Any) -> Descriptor:
        """Make a descriptor of a handle of the library, which it will destroy."""
        made = cls.__new__(cls)
        made._adopt(library, handle)
        return made

    @classmethod
    def dense(
        cls, dims: Sequence[int], dtype: str = "float32", library: Library | None = None
    ) -> Descriptor:
        """Describe a C-contiguous array."""
        return cls(dims, dtype, row_major(dims), library)

    @classmethod
    def tagged(
        cls, dims: Sequence[int], dtype: str, tag: str, library: Library | None = None
    ) -> Descriptor:
        """Describe a tensor in a layout that oneDNN has a name for, as `aBcd16b`."""
        library = library or load()
        code = _check(Key(tuple(dims), dtype), None)
        if tag not in tags.NUMBERS:
            raise BackendError(f"memory descriptor: oneDNN has no layout {tag!r}.")
        axes = len(tags.parse(tag)[0])
        if axes != len(dims):
            raise BackendError(
                f"memory descriptor: layout {tag!r} has {axes} axes, the dims {tuple(dims)} have"
                f" {len(dims)}."
            )
        return cls.adopt(library, _tagged(library, tuple(dims), code, tag))

    @classmethod
    def from_key(cls, key: Key, library: Library | None = None) -> Descriptor:
        """Make the descriptor that a key tells; raises `UnimplementedError` if nothing does."""
        library = library or load()
        if not key.blocks:
            return cls(key.dims, key.dtype, key.strides or None, library)
        _check(key, key.strides)
        tag = _find_tag(library, key)
        if tag is None:
            raise UnimplementedError(f"memory descriptor: oneDNN has no name for {key}.")
        return cls.tagged(key.dims, key.dtype, tag, library)

    @property
    def dims(self) -> Dims:
        """The sizes of the axes."""
        return self._key.dims

    @property
    def dtype(self) -> str:
        """The name of the dtype, as in `graph.dtypes`."""
        return self._key.dtype

    @property
    def padded_dims(self) -> Dims:
        """The sizes rounded up to whole blocks."""
        return self._key.padded_dims

    @property
    def is_any(self) -> bool:
        """Whether the layout is still to be chosen."""
        return not self._key.strides

    @property
    def size(self) -> int:
        """The bytes that the tensor takes, with its padding."""
        return int(self.library.lib.dnnl_memory_desc_get_size(self.handle))

    @property
    def layout(self) -> str:
        """The layout in words, as `any`, `acdb` or `aBcd16b`."""
        return self._key.layout if self._complete is not False else "opaque"

    @property
    def key(self) -> Key:
        """All of it in plain numbers, for plans; raises `UnimplementedError` if they cannot say it.

        Layouts that hold more than elements (int8 weights with compensation) are such.
        """
        if self._complete is None:
            self._complete = Descriptor.from_key(self._key, self.library) == self
        if not self._complete:
            raise UnimplementedError(f"memory descriptor: no key says all of {self._key}.")
        return self._key

    def strides(self) -> Dims | None:
        """Give the strides in elements if the layout is plain, else None."""
        plain = not self._key.blocks and not self.is_any and self._complete is not False
        return self._key.strides if plain else None

    def reshape(self, dims: Sequence[int]) -> Descriptor:
        """Describe the same memory with other dims, where the layout allows it."""
        what = f"reshape of {self} to {tuple(dims)}"
        sizes = _numbers(self.library, dims)
        function = self.library.lib.dnnl_memory_desc_reshape
        made = self.library.create(what, function, self.handle, len(dims), sizes)
        return Descriptor.adopt(self.library, made)

    def permute(self, axes: Sequence[int]) -> Descriptor:
        """Describe the same memory with its axes in another order, as `numpy.transpose`."""
        what = f"permute of {self} by {tuple(axes)}"
        if sorted(axes) != list(range(len(self.dims))):
            raise BackendError(f"{what}: each axis must be named once.")
        places = self.library.ffi.new("int[]", [axes.index(axis) for axis in range(len(axes))])
        function = self.library.lib.dnnl_memory_desc_permute_axes
        made = self.library.create(what, function, self.handle, places)
        return Descriptor.adopt(self.library, made)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Descriptor):
            return NotImplemented
        same = self.library is other.library
        return same and bool(self.library.lib.dnnl_memory_desc_equal(self.handle, other.handle))

    def __hash__(self) -> int:
        return hash((self.dims, self.dtype))

    def __str__(self) -> str:
        dims = ", ".join(map(str, self.dims))
        return f"{self.dtype}[{dims}] {self.layout}"

    __repr__ = __str__


def _check(key: Key, strides: Sequence[int] | None) -> int:
    """Give the library's number of the dtype, after looking at what the library does not."""
    if key.dtype not in DTYPES:
        raise UnimplementedError(
            f"memory descriptor: oneDNN has no {key.dtype}, only {', '.join(DTYPES)}."
        )
    if not 1 <= len(key.dims) <= MOST_AXES or min(key.dims) < 0:
        raise BackendError(
            f"memory descriptor: 1 to {MOST_AXES} dims of 0 or more are needed, got {key.dims}."
        )
    if strides is not None and (len(strides) != len(key.dims) or min(strides) < 0):
        raise BackendError(
            f"memory descriptor: {len(key.dims)} strides of 0 or more are needed for {key.dims},"
            f" got {tuple(strides)}."
        )
    return DTYPES[key.dtype]


def _numbers(library: Library, values: Sequence[int]) -> Any:
    return library.ffi.new(f"int64_t[{MOST_AXES}]", list(values))


def _settle(dims: Dims, strides: Dims) -> Dims:
    """Set the strides that do not matter, those of axes of size one, to what row-major would have.

    So a descriptor and the one made from its key are the same to a kernel that looks at strides.
    """
    settled = list(strides)
    for axis in reversed(range(len(dims))):
        if dims[axis] == 1:
            inner = range(axis + 1, len(dims))
            settled[axis] = max((settled[other] * dims[other] for other in inner), default=1) or 1
    return tuple(settled)


def _read(library: Library, handle: Any) -> tuple[Key, bool | None]:
    """Give the key of a descriptor, and whether it tells all: None is still to be found out."""
    number = library.ffi.new("int *")
    pointer = library.ffi.new("int64_t **")

    def query(what: int, result: Any) -> Any:
        status = library.lib.dnnl_memory_desc_query(handle, what, result)
        return result[0] if status == SUCCESS else None

    def query_numbers(what: int, count: int) -> Dims:
        found = query(what, pointer)
        return tuple(found[0:count]) if found else ()

    ndim = query(QUERY_NDIMS, number)
    dims = query_numbers(QUERY_DIMS, ndim)
    dtype = _DTYPE_NAMES.get(query(QUERY_DTYPE, number), "unknown")
    kind = query(QUERY_FORMAT_KIND, number)
    if kind != BLOCKED_FORMAT:
        return Key(dims, dtype), kind == ANY_FORMAT
    count = query(QUERY_BLOCK_COUNT, number)
    sizes = query_numbers(QUERY_BLOCK_SIZES, count)
    axes = query_numbers(QUERY_BLOCK_AXES, count)
    padded = query_numbers(QUERY_PADDED_DIMS, ndim)
    strides = _settle(padded, query_numbers(QUERY_STRIDES, ndim))
    return Key(dims, dtype, strides, padded, tuple(zip(sizes, axes))), None


def _tagged(library: Library, dims: Dims, code: int, tag: str) -> Any:
    function = library.lib.dnnl_memory_desc_create_with_tag
    sizes = _numbers(library, dims)
    what = f"memory descriptor {dims} {tag}"
    return library.create(what, function, len(dims), sizes, code, tags.NUMBERS[tag])


@lru_cache(maxsize=4096)
def _find_tag(library: Library, key: Key) -> str | None:
    """Find the name of a blocked layout: the one whose descriptor has the same numbers."""
    for tag in tags.with_blocks(len(key.dims), key.blocks):
        try:
            made = Descriptor.tagged(key.dims, key.dtype, tag, library)
        except BackendError:  # a name that this version of the library does not know
            continue
        if made._key == key:
            return tag
    return None
