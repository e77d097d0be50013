"""Every other function against NumPy's, over dtypes and shapes, empty ones and scalars too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import symgraph.array_api as xp
from symgraph.errors import DTypeError, IndexRangeError

SHAPES = [(), (1,), (3,), (0,), (2, 3), (2, 0), (3, 1, 2)]
DAILY = ("bool", "int8", "uint64", "float32", "complex128")
OTHERS = ("uint8", "int16", "uint16", "int32", "uint32", "int64", "float64", "complex64")
DTYPES = [*DAILY, *(pytest.param(one, marks=pytest.mark.full) for one in OTHERS)]
Case = tuple[str, Callable[[Any, Any], Any]]  # what it is, and the call on a namespace


def some(shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
    """Give numbers of a dtype, some of them equal."""
    random = np.random.default_rng(len(shape) + 1)
    kind = np.dtype(dtype).kind
    if kind == "b":
        return random.random(shape) > 0.5
    if kind in "iu":
        return random.integers(0 if kind == "u" else -4, 5, shape).astype(dtype)
    numbers = random.integers(-8, 8, shape) / 4 + (random.integers(-8, 8, shape) / 4) * (
        1j if kind == "c" else 0
    )
    return np.asarray(numbers).astype(dtype)


def assert_same(found: Any, wanted: Any, dtype: str) -> None:
    """Compare results: an array, or several, of the same dtypes, shapes and numbers."""
    if isinstance(wanted, tuple | list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted):
            assert_same(one, other, dtype)
        return
    assert isinstance(found, xp.Array)
    numbers, wanted = np.asarray(found), np.asarray(wanted)
    assert (numbers.dtype, numbers.shape) == (wanted.dtype, wanted.shape)
    if wanted.dtype.kind in "biu":
        np.testing.assert_array_equal(numbers, wanted)
    else:
        single = dtype in ("float32", "complex64")
        far, near = (1e-4, 1e-5) if single else (1e-11, 1e-12)
        np.testing.assert_allclose(numbers, wanted, rtol=far, atol=near)


def over_axes(x: np.ndarray[Any, Any]) -> Iterator[Case]:
    """Reductions, over every axis, all and none."""
    kind = x.dtype.kind
    names = ["all", "any", "count_nonzero"]
    names += ["sum", "prod"] if kind != "b" else []
    names += ["max", "min"] if kind in "iuf" and x.size else []
    names += ["mean"] if kind in "fc" and x.size else []
    names += ["std", "var"] if kind == "f" and x.size else []
    several = [(), tuple(range(x.ndim))]
    for axis in (None, *range(-x.ndim, x.ndim), *several):
        for keepdims in (False, True):
            options = {"axis": axis, "keepdims": keepdims}
            for name in names:
                yield f"{name} {options}", lambda m, a, n=name, o=options: getattr(m, n)(a, **o)
            if kind in "iuf" and x.size and not isinstance(axis, tuple):
                yield f"argmax {options}", lambda m, a, o=options: m.argmax(a, **o)
                yield f"argmin {options}", lambda m, a, o=options: m.argmin(a, **o)
    if kind == "f" and x.size > 1:
        yield "var", lambda m, a: m.var(a, correction=1)


def along_axis(x: np.ndarray[Any, Any]) -> Iterator[Case]:
    """What works along one axis."""
    numbers = x.dtype.kind != "b"
    for axis in range(-x.ndim, x.ndim):
        o: dict[str, Any] = {"axis": axis}
        if numbers:
            for initial in (False, True):
                both = {**o, "include_initial": initial}
                yield f"cumsum {both}", lambda m, a, b=both: m.cumulative_sum(a, **b)
                yield f"cumprod {both}", lambda m, a, b=both: m.cumulative_prod(a, **b)
            yield f"diff {o}", lambda m, a, o=o: m.diff(a, **o)
            yield f"diff n {o}", lambda m, a, o=o: m.diff(a, n=2, prepend=a, append=a, **o)
        if x.dtype.kind in "iuf":
            yield f"sort {o}", lambda m, a, o=o: m.sort(a, **o)
            yield f"argsort {o}", lambda m, a, o=o: m.argsort(a, stable=True, **o)
        yield f"roll {o}", lambda m, a, o=o: m.roll(a, 2, **o)
        yield f"unstack {o}", lambda m, a, o=o: m.unstack(a, **o)
        yield f"repeat {o}", lambda m, a, o=o: m.repeat(a, 2, **o)
        yield f"stack {o}", lambda m, a, o=o: m.stack([a, a], **o)
        yield f"concat {o}", lambda m, a, o=o: m.concat((a, a), **o)
        yield f"expand_dims {o}", lambda m, a, o=o: m.expand_dims(a, **o)
        yield f"moveaxis {o}", lambda m, a, o=o: m.moveaxis(a, o["axis"], 0)
        yield f"flip {o}", lambda m, a, o=o: m.flip(a, **o)
        yield f"indices {o}", lambda m, a, o=o: m.take_along_axis(
            a, m.argsort(m.zeros(a.shape, dtype="int64"), **o, stable=True), **o)  # fmt: skip
        if x.shape[axis]:
            yield f"take {o}", lambda m, a, o=o: m.take(a, m.asarray([0, -1, 0]), **o)


def whole(x: np.ndarray[Any, Any]) -> Iterator[Case]:
    """What works on a whole array."""
    yield "roll", lambda m, a: m.roll(a, 2)
    yield "repeat", lambda m, a: m.repeat(a, 2)
    yield "concat", lambda m, a: m.concat([a, a], axis=None)
    yield "reshape", lambda m, a: m.reshape(a, (a.size, 1))
    for counts in ((2,), (2, 1), (0,), (1, 2, 1, 2), ()):
        yield f"tile {counts}", lambda m, a, c=counts: m.tile(a, c)
    yield "broadcast_to", lambda m, a: m.broadcast_to(a, (2, *a.shape))
    yield (
        "broadcast_arrays",
        lambda m, a: m.broadcast_arrays(a, m.zeros((4, 1, 1, 1), dtype="int8")),
    )
    yield "permute_dims", lambda m, a: m.permute_dims(a, tuple(range(a.ndim))[::-1])
    yield "flip", lambda m, a: m.flip(a)
    yield "where", lambda m, a: m.where(m.asarray([[True], [False]]), a, a[...])
    yield "zeros_like", lambda m, a: m.zeros_like(a)
    yield "ones_like", lambda m, a: m.ones_like(a)
    yield "full_like", lambda m, a: m.full_like(a, True if a.dtype == "bool" else 3)
    yield "unique_all", lambda m, a: m.unique_all(a)
    yield "unique_counts", lambda m, a: m.unique_counts(a)
    yield "unique_inverse", lambda m, a: m.unique_inverse(a)
    if x.ndim:
        yield "nonzero", lambda m, a: m.nonzero(a)
    if x.ndim == 1:
        yield "meshgrid", lambda m, a: m.meshgrid(a, a[:1], a)
        yield "meshgrid ij", lambda m, a: m.meshgrid(a, a[:1], indexing="ij")
        yield "counts", lambda m, a: m.repeat(a, m.arange(a.shape[0]))
    if x.ndim == 1 and x.dtype.kind in "iuf":
        yield "searchsorted", lambda m, a: m.searchsorted(m.sort(a), a, side="right")


def matrices(x: np.ndarray[Any, Any]) -> Iterator[Case]:
    """Products, norms, decompositions and triangles."""
    kind = x.dtype.kind
    if x.ndim >= 2:
        for k in (-1, 0, 2):
            yield f"tril {k}", lambda m, a, k=k: m.tril(a, k=k)
            yield f"triu {k}", lambda m, a, k=k: m.triu(a, k=k)
        yield "diagonal", lambda m, a: m.linalg.diagonal(a, offset=1)
        yield "matrix_transpose", lambda m, a: m.matrix_transpose(a)
    if kind == "b":
        return
    if x.ndim:
        yield "vecdot", lambda m, a: m.vecdot(a, a)
        yield "tensordot", lambda m, a: m.tensordot(a, a, axes=([0], [0]))
    if x.ndim == 1:
        yield "outer", lambda m, a: m.linalg.outer(a, a)
        yield "inner", lambda m, a: m.matmul(a, a)
    if x.shape == (3,):
        yield "cross", lambda m, a: m.linalg.cross(a, a[::-1])
    if x.ndim >= 2:
        yield "trace", lambda m, a: m.linalg.trace(a)
        yield "matmul", lambda m, a: m.matmul(a, a.mT)
    if kind in "fc":
        yield from _with_floats(x)


def _with_floats(x: np.ndarray[Any, Any]) -> Iterator[Case]:
    for order in (2, 1, 0, 3.5, *((np.inf, -np.inf) if x.size else ())):
        yield f"vector_norm {order}", lambda m, a, o=order: m.linalg.vector_norm(a, ord=o)
    if x.ndim < 2:
        return
    for norm in ("fro", "nuc", 1, -1, 2, -2, np.inf) if x.size else ("fro",):
        yield f"matrix_norm {norm}", lambda m, a, o=norm: m.linalg.matrix_norm(a, ord=o)
    yield "svdvals", lambda m, a: m.linalg.svdvals(a)
    yield "matrix_rank", lambda m, a: m.linalg.matrix_rank(a)
    yield "pinv", lambda m, a: m.linalg.pinv(a)
    for part in range(3):
        yield f"svd {part}", lambda m, a, i=part: m.zeros_like(m.linalg.svd(a)[i])
    yield "qr", lambda m, a: m.matmul(*m.linalg.qr(a))
    yield "qr complete", lambda m, a: m.zeros_like(m.linalg.qr(a, mode="complete")[0])

    def square(m: Any, a: Any) -> Any:
        return m.matmul(a, m.conj(a.mT)) + m.eye(a.shape[-2], dtype=a.dtype)

    for name in ("inv", "det", "slogdet", "eigvalsh", "cholesky"):
        yield name, lambda m, a, n=name: getattr(m.linalg, n)(square(m, a))
    yield "upper", lambda m, a: m.linalg.cholesky(square(m, a), upper=True)
    yield "eigh", lambda m, a: m.linalg.eigh(square(m, a)).eigenvalues
    yield "solve", lambda m, a: m.linalg.solve(square(m, a), a)
    for power in (0, 3, -1):
        yield f"power {power}", lambda m, a, p=power: m.linalg.matrix_power(square(m, a), p)


def transforms(x: np.ndarray[Any, Any]) -> Iterator[Case]:
    """Fourier transforms; of nothing there is none, which NumPy takes for many points."""
    if x.dtype.kind not in "fc" or not x.ndim or not x.size:
        return
    real = x.dtype.kind == "f"
    for name in ("fft", "ifft", *(("rfft", "ihfft") if real else ("irfft", "hfft"))):
        if name in ("irfft", "hfft") and x.shape[-1] < 2:
            continue
        for norm in ("backward", "ortho", "forward"):
            yield f"{name} {norm}", lambda m, a, n=name, o=norm: getattr(m.fft, n)(a, norm=o)
        yield f"{name} n", lambda m, a, n=name: getattr(m.fft, n)(a, n=4, axis=0)
    for name in ("fftn", "ifftn", "rfftn" if real else "irfftn"):
        yield name, lambda m, a, n=name: getattr(m.fft, n)(a, s=(4,), axes=(0,))
    yield "fftshift", lambda m, a: m.fft.fftshift(a)
    yield "ifftshift", lambda m, a: m.fft.ifftshift(a, axes=0)


@pytest.mark.parametrize("family", [over_axes, along_axis, whole, matrices, transforms])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_functions_give_what_numpy_gives(family: Callable[..., Any], dtype: str) -> None:
    for shape in SHAPES:
        x = some(shape, dtype)
        for what, run in family(x):
            wanted = run(np, x)
            try:
                assert_same(run(xp, xp.asarray(x)), wanted, dtype)
            except Exception as problem:
                problem.add_note(f"{what} of {dtype}{list(shape)}: {x!r}")
                raise


CREATED: list[Callable[[Any], Any]] = [
    lambda m: m.arange(5, dtype="int64"),
    lambda m: m.arange(7, 1, -2, dtype="int16"),
    lambda m: m.arange(0.0, 1.0, 0.25, dtype="float64"),
    lambda m: m.arange(3, 3, dtype="float32"),
    lambda m: m.linspace(0.0, 1.0, 7, dtype="float64"),
    lambda m: m.linspace(-2.0, 5.0, 4, endpoint=False, dtype="float32"),
    lambda m: m.linspace(0.0, 1.0, 0, dtype="float64"),
    lambda m: m.linspace(1j, 2.0, 5, dtype="complex128"),
    lambda m: m.linspace(0, 10, 5, dtype="int32"),
    lambda m: m.eye(3, 4, k=1, dtype="int8"),
    lambda m: m.eye(0, dtype="complex64"),
    lambda m: m.zeros((2, 0), dtype="bool"),
    lambda m: m.ones(3, dtype="complex128"),
    lambda m: m.full((2, 2), 7, dtype="uint8"),
    lambda m: m.full((), True),
    lambda m: m.full((2,), 1.5, dtype="float64"),
    lambda m: m.full((2,), 1 + 2j, dtype="complex64"),
    lambda m: m.asarray([[1, 2], [3, 4]]),
    lambda m: m.asarray([True, False]),
    lambda m: m.asarray(3, dtype="float64"),
    lambda m: m.asarray([1 + 2j], dtype="complex128"),
    lambda m: m.asarray(2**63, dtype="uint64"),
    lambda m: m.asarray([], dtype="float32"),
    lambda m: m.fft.fftfreq(5, d=0.5, dtype="float64") if m is xp else np.fft.fftfreq(5, 0.5),
    lambda m: m.fft.rfftfreq(4, d=2.0, dtype="float64") if m is xp else np.fft.rfftfreq(4, 2.0),
    lambda m: m.astype(m.asarray([0.5, 0.0, -2.0]), "bool"),
    lambda m: m.astype(m.asarray([0.5, -1.5]), "int8"),
    lambda m: m.astype(m.asarray([1, 2]), "complex64"),
]  # fmt: skip


@pytest.mark.parametrize("run", CREATED, ids=range(len(CREATED)))
def test_creation_gives_what_numpy_gives(run: Callable[[Any], Any]) -> None:
    wanted = np.asarray(run(np))
    assert_same(run(xp), wanted, wanted.dtype.name)


def test_a_new_axis_must_be_there() -> None:
    for axis in (3, -4, (0, 4)):
        with pytest.raises(IndexRangeError, match="expand_dims: there is no axis"):
            xp.expand_dims(xp.ones((2, 2)), axis=axis)


def test_sorting_downwards_keeps_the_order_of_equal_elements() -> None:
    x = xp.asarray([2.0, 1.0, 2.0, 3.0, 1.0])
    assert np.asarray(xp.argsort(x, descending=True)).tolist() == [3, 0, 2, 1, 4]
    assert np.asarray(xp.sort(x, descending=True)).tolist() == [3, 2, 2, 1, 1]


@pytest.mark.parametrize("stack", [(), (3,), (2, 3), (0,)])
def test_tolerances_of_ranks_are_one_for_each_matrix(stack: tuple[int, ...]) -> None:
    x, rtol = some((*stack, 4, 3), "float64"), np.abs(some(stack, "float64")) / 4 + 0.05
    for name in ("matrix_rank", "pinv"):
        found = getattr(xp.linalg, name)(xp.asarray(x), rtol=xp.asarray(rtol))
        wanted = getattr(np.linalg, name)(x, rtol=rtol)
        np.testing.assert_allclose(np.asarray(found), wanted, atol=1e-12)
    one = xp.linalg.pinv(xp.asarray(x), rtol=xp.asarray(0.3))
    np.testing.assert_allclose(np.asarray(one), np.linalg.pinv(x, rtol=0.3), atol=1e-12)
    with pytest.raises(DTypeError, match="pinv: takes"):
        xp.linalg.pinv(xp.asarray(x), rtol=xp.asarray(1))


def test_every_nan_is_unique() -> None:
    found = xp.unique_all(xp.asarray([1.0, float("nan"), 1.0, float("nan")]))
    assert np.asarray(found.counts).tolist() == [2, 1, 1]
    assert found.values.shape == (3,)
    assert np.asarray(found.inverse_indices).tolist() == [0, 1, 0, 2]
    assert np.asarray(found.indices).tolist() == [0, 1, 3]


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_numbers_with_a_nan_are_unique(dtype: str) -> None:
    nan = float("nan")
    numbers = np.array([[1j, complex(0, nan)], [1j, complex(0, nan)], [-0.0, 0.0]], dtype)
    found = xp.unique_all(xp.asarray(numbers))
    values, indices, inverse, counts = map(np.asarray, found)
    assert values.dtype == dtype
    np.testing.assert_array_equal(values[inverse], numbers)
    np.testing.assert_array_equal(values, numbers.ravel()[indices])
    assert sorted(counts.tolist()) == [1, 1, 2, 2]


def test_factors_make_the_matrix_again() -> None:
    x = xp.asarray(some((2, 4, 3), "float64"))
    u, s, vh = xp.linalg.svd(x, full_matrices=False)
    np.testing.assert_allclose(np.asarray((u * s[:, None, :]) @ vh), np.asarray(x), atol=1e-12)
    h = x @ x.mT
    w, v = xp.linalg.eigh(h)
    np.testing.assert_allclose(np.asarray((v * w[:, None, :]) @ v.mT), np.asarray(h), atol=1e-12)


def test_a_grid_is_a_list_as_the_standard_of_2024_says() -> None:
    assert type(xp.meshgrid(xp.arange(2), xp.arange(3))) is list
    assert xp.meshgrid() == []
