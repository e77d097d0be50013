"""Functions written for the standard: on NumPy's arrays, on ours, and on symbolic values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import symgraph as sg
import symgraph.array_api as xp
from symgraph.errors import ArgumentError
from tests.array_api.standard import ATTRIBUTES, EXTENSIONS, FUNCTIONS, SECTIONS, lines


def _signatures() -> Iterator[tuple[Any, str]]:
    for text in FUNCTIONS.values():
        yield from ((sg, line) for line in lines(text))
    for extension, text in EXTENSIONS.items():
        yield from ((getattr(sg, extension), line) for line in lines(text))


def _parameters(line: str) -> Any:
    """Read a signature of the standard."""
    made: Any = {}
    exec("def f" + line[line.index("(") :] + ": pass", {}, made)
    return inspect.signature(made["f"]).parameters.values()


@pytest.mark.parametrize(("home", "line"), list(_signatures()), ids=lambda value: str(value)[:40])
def test_symgraph_takes_every_call_of_the_standard(home: Any, line: str) -> None:
    function = inspect.signature(getattr(home, line.split("(")[0]))
    parameters = _parameters(line)
    named = {one.name: None for one in parameters if one.kind is one.KEYWORD_ONLY}
    either = {one.name: None for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD}
    by_place = [None for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.VAR_POSITIONAL)]
    function.bind(*by_place, *either, **named)
    function.bind(*by_place, **either, **named)


def test_symgraph_has_the_other_names() -> None:
    for name in " ".join(SECTIONS.values()).split():
        assert hasattr(sg, name)
    x = sg.tensor("x", (2, 3))
    assert all(hasattr(x, name) for name in ATTRIBUTES.split())
    assert x.device is None
    assert x.to_device(None) is x
    assert sg.zeros(2, device=x.device).dtype == "float32"
    assert x.__array_namespace__(api_version="2024.12") is sg
    assert sg.__array_namespace_info__().capabilities()["boolean indexing"] is True
    assert sg.__array_namespace_info__().devices() == [None]
    with pytest.raises(ArgumentError, match="zeros: device='cpu'"):
        sg.zeros(2, device="cpu")
    with pytest.raises(ArgumentError, match="to_device: device='cuda'"):
        x.to_device("cuda")
    with pytest.raises(ArgumentError, match="no version '2019'"):
        x.__array_namespace__(api_version="2019")


def test_what_the_standard_adds_means_what_it_says() -> None:
    x = sg.constant([5.0, 6.0, 7.0])
    assert sg.take(x, [2, 0], axis=None).eval().tolist() == [7.0, 5.0]
    assert sg.reshape(x, (3, 1), copy=True).shape == (3, 1)
    assert sg.full(2, fill_value=3).eval().tolist() == [3, 3]
    assert sg.from_dlpack(np.ones(2), device=None, copy=True).eval().tolist() == [1.0, 1.0]
    with pytest.raises(ArgumentError, match="from_dlpack: numbers are copied"):
        sg.from_dlpack(np.ones(2), copy=False)


def test_interpreting_from_the_middle_needs_nothing_below() -> None:
    x = sg.tensor("x", (2,))
    middle = sg.exp(x)
    found = sg.interpret([middle + 1.0, middle * middle], {middle: np.array([1.0, 2.0])})
    assert [one.tolist() for one in found] == [[2.0, 3.0], [1.0, 4.0]]


# -- programs that know only the standard ----------------------------------------------------------


def softmax(x: Any) -> Any:
    space = x.__array_namespace__()
    weights = space.exp(x - space.max(x, axis=-1, keepdims=True))
    return weights / space.sum(weights, axis=-1, keepdims=True)


def standardized(x: Any) -> Any:
    space = x.__array_namespace__()
    spread = space.std(x, axis=0, correction=1)
    return space.where(spread > 0.0, (x - space.mean(x, axis=0)) / spread, 0.0)


def distances(x: Any) -> Any:
    space = x.__array_namespace__()
    apart = space.expand_dims(x, axis=1) - x[None, ...]
    return space.linalg.vector_norm(apart, axis=-1)


def smoothed(x: Any) -> Any:
    space = x.__array_namespace__()
    kernel = space.asarray([0.25, 0.5, 0.25], dtype=x.dtype, device=x.device)
    ends = space.zeros((x.shape[0], 1), dtype=x.dtype, device=x.device)
    wide = space.concat([ends, x, ends], axis=1)
    return kernel[0] * wide[:, :-2] + kernel[1] * wide[:, 1:-1] + kernel[2] * wide[:, 2:]


def whitened(x: Any) -> Any:
    space = x.__array_namespace__()
    centred = x - space.mean(x, axis=0)
    regular = centred.mT @ centred + space.eye(x.shape[1], dtype=x.dtype)
    return space.linalg.solve(space.linalg.cholesky(regular), centred.mT)


def low_frequencies(x: Any) -> Any:
    space = x.__array_namespace__()
    spectrum = space.fft.rfft(x, axis=-1)
    keep = space.astype(space.arange(spectrum.shape[-1]) < 2, x.dtype)
    return space.fft.irfft(spectrum * keep, n=x.shape[-1], axis=-1)


def ranked(x: Any) -> Any:
    space = x.__array_namespace__()
    order = space.argsort(x, axis=0)
    return space.take_along_axis(x, order, axis=0) + space.astype(order, x.dtype)


def positives(x: Any) -> Any:
    space = x.__array_namespace__()
    (places,) = space.nonzero(space.reshape(x, (-1,)) > 0.0)
    return space.concat([x[x > 0.0], space.astype(places, x.dtype)])


@pytest.mark.parametrize(
    "program",
    [softmax, standardized, distances, smoothed, whitened, low_frequencies, ranked, positives],
    ids=lambda program: program.__name__,
)
def test_one_program_runs_on_three_kinds_of_arrays(program: Callable[[Any], Any]) -> None:
    numbers = np.random.default_rng(3).normal(size=(5, 4)).astype("float32")
    wanted = program(numbers)
    eager = program(xp.asarray(numbers))
    assert isinstance(eager, xp.Array)
    np.testing.assert_allclose(np.asarray(eager), wanted, rtol=2e-5, atol=2e-6)
    x = sg.tensor("x", (5, 4))
    symbolic = program(x)
    assert isinstance(symbolic, sg.Value)
    np.testing.assert_allclose(symbolic.eval({x: numbers}), wanted, rtol=2e-5, atol=2e-6)
