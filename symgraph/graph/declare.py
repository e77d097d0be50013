"""Theano's declarations: `vector("x")`, `imatrix("labels")`, ... inputs with sizes of their own.

A prefix names the dtype (b w i l f d c z: int8 int16 int32 int64 float32 float64 complex64
complex128), none means `config.float_dtype`. Every size is a fresh anonymous one; `row` and `col`
have one size 1.
"""

from __future__ import annotations

from typing import Any

from symgraph.dims import anonymous
from symgraph.graph.leaves import tensor
from symgraph.graph.node import Value
from symgraph.graph.origin import assigned_name, here


class Declaration:
    """A function (name, dtype) -> input with a fixed number of axes of unknown sizes.

    >>> import symgraph as sg
    >>> str(sg.ivector("n").type)
    'int32[n.shape[0]]'
    """

    def __init__(self, ndim: int, dtype: str | None, ones: tuple[int, ...] = ()) -> None:
        self.ndim, self.dtype, self.ones = ndim, dtype, ones
        self.__doc__ = f"Make an input with {ndim} axes, {dtype or 'of the default float dtype'}."

    def __call__(self, name: str | None = None, dtype: Any = None) -> Value:
        label = name or assigned_name(here()) or "input"
        shape = [
            1 if axis in self.ones else anonymous(f"{label}.shape[{axis}]")
            for axis in range(self.ndim)
        ]
        return tensor(name, shape, dtype or self.dtype)

    def __repr__(self) -> str:
        return f"<declare {self.ndim} axes, {self.dtype or 'default float'}>"


scalar = Declaration(0, None)
vector = Declaration(1, None)
matrix = Declaration(2, None)
tensor3 = Declaration(3, None)
tensor4 = Declaration(4, None)
tensor5 = Declaration(5, None)
row = Declaration(2, None, ones=(0,))
col = Declaration(2, None, ones=(1,))
bscalar = Declaration(0, "int8")
bvector = Declaration(1, "int8")
bmatrix = Declaration(2, "int8")
btensor3 = Declaration(3, "int8")
btensor4 = Declaration(4, "int8")
btensor5 = Declaration(5, "int8")
brow = Declaration(2, "int8", ones=(0,))
bcol = Declaration(2, "int8", ones=(1,))
wscalar = Declaration(0, "int16")
wvector = Declaration(1, "int16")
wmatrix = Declaration(2, "int16")
wtensor3 = Declaration(3, "int16")
wtensor4 = Declaration(4, "int16")
wtensor5 = Declaration(5, "int16")
wrow = Declaration(2, "int16", ones=(0,))
wcol = Declaration(2, "int16", ones=(1,))
iscalar = Declaration(0, "int32")
ivector = Declaration(1, "int32")
imatrix = Declaration(2, "int32")
itensor3 = Declaration(3, "int32")
itensor4 = Declaration(4, "int32")
itensor5 = Declaration(5, "int32")
irow = Declaration(2, "int32", ones=(0,))
icol = Declaration(2, "int32", ones=(1,))
lscalar = Declaration(0, "int64")
lvector = Declaration(1, "int64")
lmatrix = Declaration(2, "int64")
ltensor3 = Declaration(3, "int64")
ltensor4 = Declaration(4, "int64")
ltensor5 = Declaration(5, "int64")
lrow = Declaration(2, "int64", ones=(0,))
lcol = Declaration(2, "int64", ones=(1,))
fscalar = Declaration(0, "float32")
fvector = Declaration(1, "float32")
fmatrix = Declaration(2, "float32")
ftensor3 = Declaration(3, "float32")
ftensor4 = Declaration(4, "float32")
ftensor5 = Declaration(5, "float32")
frow = Declaration(2, "float32", ones=(0,))
fcol = Declaration(2, "float32", ones=(1,))
dscalar = Declaration(0, "float64")
dvector = Declaration(1, "float64")
dmatrix = Declaration(2, "float64")
dtensor3 = Declaration(3, "float64")
dtensor4 = Declaration(4, "float64")
dtensor5 = Declaration(5, "float64")
drow = Declaration(2, "float64", ones=(0,))
dcol = Declaration(2, "float64", ones=(1,))
cscalar = Declaration(0, "complex64")
cvector = Declaration(1, "complex64")
cmatrix = Declaration(2, "complex64")
ctensor3 = Declaration(3, "complex64")
ctensor4 = Declaration(4, "complex64")
ctensor5 = Declaration(5, "complex64")
crow = Declaration(2, "complex64", ones=(0,))
ccol = Declaration(2, "complex64", ones=(1,))
zscalar = Declaration(0, "complex128")
zvector = Declaration(1, "complex128")
zmatrix = Declaration(2, "complex128")
ztensor3 = Declaration(3, "complex128")
ztensor4 = Declaration(4, "complex128")
ztensor5 = Declaration(5, "complex128")
zrow = Declaration(2, "complex128", ones=(0,))
zcol = Declaration(2, "complex128", ones=(1,))

__all__ = [
    "scalar", "vector", "matrix", "tensor3", "tensor4", "tensor5", "row", "col", "bscalar",
    "bvector", "bmatrix", "btensor3", "btensor4", "btensor5", "brow", "bcol", "wscalar",
    "wvector", "wmatrix", "wtensor3", "wtensor4", "wtensor5", "wrow", "wcol", "iscalar",
    "ivector", "imatrix", "itensor3", "itensor4", "itensor5", "irow", "icol", "lscalar",
    "lvector", "lmatrix", "ltensor3", "ltensor4", "ltensor5", "lrow", "lcol", "fscalar",
    "fvector", "fmatrix", "ftensor3", "ftensor4", "ftensor5", "frow", "fcol", "dscalar",
    "dvector", "dmatrix", "dtensor3", "dtensor4", "dtensor5", "drow", "dcol",
    "cscalar", "cvector", "cmatrix", "ctensor3", "ctensor4", "ctensor5",
    "crow", "ccol", "zscalar", "zvector", "zmatrix", "ztensor3",
    "ztensor4", "ztensor5", "zrow", "zcol",
]  # fmt: skip
