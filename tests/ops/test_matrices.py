"""What defines factorisations, whole stacks with matrices that have no result, and their errors."""

from __future__ import annotations

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import GradError
from symgraph.graph.interpret import interpret
from symgraph.graph.registry import F

RNG = np.random.default_rng(5)
TALL, WIDE, SQUARE = (RNG.normal(size=(3, *s)) for s in ((5, 3), (3, 5), (4, 4)))
GRAM = SQUARE @ SQUARE.swapaxes(-1, -2) + np.eye(4)


def run(build, *arrays):
    inputs = [sg.tensor(f"x{i}", a.shape, a.dtype) for i, a in enumerate(arrays)]
    found = build(*inputs)
    values = list(found) if isinstance(found, tuple | list) else [found]
    return interpret(values, dict(zip(inputs, arrays)))


def turned(x):
    return np.conj(np.swapaxes(x, -1, -2))


def assert_orthonormal(x):
    found = turned(x) @ x
    np.testing.assert_allclose(found, np.broadcast_to(np.eye(x.shape[-1]), found.shape), atol=1e-12)


@pytest.mark.parametrize("x", [TALL, WIDE, SQUARE], ids=["tall", "wide", "square"])
def test_factors_multiply_to_the_matrix(x: np.ndarray) -> None:
    q, r = run(F.qr, x)
    np.testing.assert_allclose(q @ r, x, atol=1e-12)
    assert_orthonormal(q)
    assert not np.tril(r, -1).any()
    p, lower, upper = run(F.lu, x)
    np.testing.assert_allclose(p @ lower @ upper, x, atol=1e-12)
    assert (np.abs(lower) <= 1 + 1e-12).all()
    for full in (False, True):
        u, s, vh = run(lambda x, full=full: F.svd(x, full_matrices=full), x)
        middle = np.zeros((3, u.shape[-1], vh.shape[-2]))
        middle[:, range(s.shape[-1]), range(s.shape[-1])] = s
        np.testing.assert_allclose(u @ middle @ vh, x, atol=1e-12)
        assert_orthonormal(u)
        assert_orthonormal(turned(vh))
        assert (np.diff(s, axis=-1) <= 0).all()


def test_eigenvectors_are_scaled_by_the_matrix() -> None:
    values, vectors = run(F.eigh, GRAM)
    np.testing.assert_allclose(GRAM @ vectors, vectors * values[..., None, :], atol=1e-11)


@pytest.mark.parametrize(
    "name", ["cholesky", "inv", "solve", "eigh", "svd", "svdvals", "eigvalsh", "pinv", "expm", "qr"]
)
def test_a_matrix_without_a_result_leaves_the_others_alone(name: str) -> None:
    stack = GRAM.copy()
    stack[1] = np.nan
    arrays = (stack, SQUARE) if name == "solve" else (stack,)
    for engine in (interpret, compiled):
        inputs = [sg.tensor(f"x{i}", a.shape, "float64") for i, a in enumerate(arrays)]
        made = getattr(F, name)(*inputs)
        outputs = list(made) if isinstance(made, tuple) else [made]
        found = engine(outputs, dict(zip(inputs, arrays)))
        good = run(getattr(F, name), *(a[[0, 2]] for a in arrays))
        for one, wanted in zip(found, good):
            assert np.isnan(one[1]).any()
            np.testing.assert_array_equal(one[[0, 2]], wanted)


def compiled(outputs, feeds):
    f = sg.function(list(feeds), outputs)
    return f(*feeds.values())


def test_singular_matrices() -> None:
    singular = np.array([[1.0, 2.0], [2.0, 4.0]])
    assert run(F.det, singular)[0] == 0
    assert np.isnan(run(F.inv, singular)[0]).all()
    x = sg.tensor("x", (2, 2), "float64")
    (slope,) = interpret([sg.grad(F.det(x), x)], {x: singular})
    np.testing.assert_allclose(slope, [[4, -2], [-2, 1]], atol=1e-14)  # the cofactors


def test_equal_eigenvalues_give_finite_gradients() -> None:
    x = sg.tensor("x", (3, 3), "float64")
    values, vectors = F.eigh(x)
    by_values = sg.grad((values * values).sum(), x)
    by_vectors = sg.grad((vectors * vectors * vectors).sum(), x)
    found = interpret([by_values, by_vectors], {x: 2 * np.eye(3)})
    np.testing.assert_allclose(found[0], 4 * np.eye(3), atol=1e-14)  # the square's, as it should
    assert np.isfinite(found[1]).all()
    by_values = sg.grad((F.svdvals(x) ** 2).sum(), x)
    (slope,) = interpret([by_values], {x: 2 * np.eye(3)})
    np.testing.assert_allclose(slope, 4 * np.eye(3), atol=1e-14)


def test_what_is_not_determined_has_no_gradient() -> None:
    x = sg.tensor("x", (4, 2), "float64")
    with pytest.raises(GradError, match="qr: a complete Q"):
        sg.grad(F.qr(x, mode="complete")[0].sum(), x)
    with pytest.raises(GradError, match="svd: the singular vectors of full matrices"):
        sg.grad(F.svd(x)[0].sum(), x)
    sg.grad(F.svd(x)[1].sum(), x)


def test_numpys_functions_build_graph() -> None:
    x = sg.tensor("x", (2, 2), "float64")
    assert np.linalg.inv(x) is F.inv(x)
    assert np.linalg.solve(x, x) is F.solve(x, x)
    assert sg.linalg.svdvals is F.svdvals
