"""PyTorch on the CPU as a second opinion: values and gradients of linear algebra."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import tensor
from symgraph.graph.registry import F

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

RNG = np.random.default_rng(3)
SQUARE = RNG.normal(size=(2, 4, 4)) + 3 * np.eye(4)
GRAM = SQUARE @ SQUARE.swapaxes(-1, -2)
TALL, WIDE = RNG.normal(size=(2, 5, 3)), RNG.normal(size=(2, 3, 5))
RIGHT = RNG.normal(size=(2, 4, 2))
COMPLEX = TALL + 1j * RNG.normal(size=TALL.shape)
HERMITIAN = COMPLEX.conj().swapaxes(-1, -2) @ COMPLEX
T: Any = torch.linalg


def both(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give the parts of a factorisation that do not depend on signs."""
    return lambda *xs: tuple(part * part for part in function(*xs))


CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...]]] = {
    "cholesky": (F.cholesky, T.cholesky, (GRAM,)),
    "qr tall": (F.qr, T.qr, (TALL,)),
    "qr wide": (F.qr, T.qr, (WIDE,)),
    "lu": (lambda x: F.lu(x)[1:], lambda x: T.lu(x)[1:], (SQUARE,)),
    "lu tall": (lambda x: F.lu(x)[1:], lambda x: T.lu(x)[1:], (TALL,)),
    "lu wide": (lambda x: F.lu(x)[1:], lambda x: T.lu(x)[1:], (WIDE,)),
    "eigh": (both(F.eigh), both(T.eigh), (GRAM,)),
    "svd tall": (
        both(lambda x: F.svd(x, full_matrices=False)),
        both(lambda x: T.svd(x, full_matrices=False)),
        (TALL,),
    ),
    "svd wide": (
        both(lambda x: F.svd(x, full_matrices=False)),
        both(lambda x: T.svd(x, full_matrices=False)),
        (WIDE,),
    ),
    "svdvals": (F.svdvals, T.svdvals, (TALL,)),
    "solve": (F.solve, T.solve, (SQUARE, RIGHT)),
    "triangular_solve": (
        lambda a, b: F.triangular_solve(a, b, lower=False, unit_diagonal=True),
        lambda a, b: T.solve_triangular(a, b, upper=True, unitriangular=True),
        (SQUARE, RIGHT),
    ),
    "inv": (F.inv, T.inv, (SQUARE,)),
    "pinv": (F.pinv, T.pinv, (WIDE,)),
    "det": (F.det, T.det, (SQUARE,)),
    "slogdet": (lambda x: F.slogdet(x)[1], lambda x: T.slogdet(x)[1], (SQUARE,)),
    "expm": (F.expm, torch.matrix_exp, (SQUARE,)),
    "matrix_norm nuc": (
        lambda x: F.matrix_norm(x, ord="nuc"),
        lambda x: T.matrix_norm(x, ord="nuc"),
        (TALL,),
    ),
    "lstsq": (
        lambda a, b: F.lstsq(a, b)[0],
        lambda a, b: T.lstsq(a, b)[0],
        (TALL, RNG.normal(size=(2, 5, 2))),
    ),
}

CASES |= {
    # of a Hermitian matrix alone PyTorch gives another gradient for changes that are not Hermitian
    "complex cholesky": (
        lambda x: F.cholesky(F.conj(x).mT @ x),
        lambda x: T.cholesky(x.mH @ x),
        (COMPLEX,),
    ),
    "complex qr": (F.qr, T.qr, (COMPLEX,)),
    "complex eigh": (
        lambda x: (F.eigh(x)[0], F.abs(F.eigh(x)[1])),
        lambda x: (T.eigh(x)[0], T.eigh(x)[1].abs()),
        (HERMITIAN,),
    ),
    "complex svd": (
        lambda x: [F.abs(part) for part in F.svd(x, full_matrices=False)],
        lambda x: [part.abs() for part in T.svd(x, full_matrices=False)],
        (COMPLEX,),
    ),
    "eig": (
        lambda x: (F.eig(x)[0], F.abs(F.eig(x)[1])),
        lambda x: (T.eig(x)[0], T.eig(x)[1].abs()),
        (SQUARE,),
    ),
    "complex solve": (F.solve, T.solve, (HERMITIAN, COMPLEX[:, :3])),
    "complex det": (F.det, T.det, (HERMITIAN,)),
    "complex slogdet": (F.slogdet, T.slogdet, (COMPLEX[:, :3],)),
    "complex pinv": (F.pinv, T.pinv, (COMPLEX,)),
    "complex functions": (
        lambda x: (F.exp(x) * F.sqrt(x), F.abs(x), F.angle(x), F.sign(x), F.conj(x) ** 3),
        lambda x: (x.exp() * x.sqrt(), x.abs(), x.angle(), x.sgn(), x.conj() ** 3),
        (COMPLEX,),
    ),
    "products": (lambda x, y: x @ F.conj(y).mT, lambda x, y: x @ y.mH, (COMPLEX, TALL + 0j)),
    "fft": (lambda x: F.fft(x, 7, 1, "ortho"), lambda x: torch.fft.fft(x, 7, 1, "ortho"), (TALL,)),
    "rfftn": (F.rfftn, torch.fft.rfftn, (TALL,)),
    "irfft": (lambda x: F.irfft(x, 5), lambda x: torch.fft.irfft(x, 5), (COMPLEX,)),
    "hfft": (lambda x: F.hfft(x, 4), lambda x: torch.fft.hfft(x, 4), (COMPLEX,)),
}


def listed(found: Any) -> list[Any]:
    return list(found) if isinstance(found, tuple | list) else [found]


def drawn(result: Any) -> Any:
    """Draw a cotangent of a result of PyTorch."""
    parts = RNG.normal(size=(2, *result.shape))
    return parts[0] + 1j * parts[1] if result.is_complex() else parts[0]


@pytest.mark.parametrize("name", list(CASES))
def test_values_and_gradients_are_those_of_torch(name: str) -> None:
    ours, theirs, arrays = CASES[name]
    inputs = [tensor(f"x{i}", a.shape, str(a.dtype)) for i, a in enumerate(arrays)]
    peers = [torch.tensor(a, requires_grad=True) for a in arrays]
    found, wanted = listed(ours(*inputs)), listed(theirs(*peers))
    weights = [drawn(w) for w in wanted]
    torch.autograd.backward(wanted, [torch.tensor(w) for w in weights])
    cotangents = [tensor(f"g{i}", w.shape, str(w.dtype)) for i, w in enumerate(weights)]
    pulled = F.vjp(found, inputs, cotangents)
    feeds = {**dict(zip(inputs, arrays)), **dict(zip(cotangents, weights))}
    results = interpret([*found, *pulled], feeds)
    expected = [*(w.detach() for w in wanted), *(p.grad for p in peers)]
    for one, other in zip(results, expected):
        other = other.resolve_conj().numpy()
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-10 * (1 + np.abs(other).max()))
