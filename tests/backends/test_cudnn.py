"""Convolutions as cuDNN plans them for an H200 that is not there: no driver, no device."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from symgraph.backends.arrays import Array
from symgraph.backends.cuda import offline
from symgraph.backends.cuda.calls import CONVOLUTIONS, concrete
from symgraph.backends.cuda.cudnn.library import described, found
from symgraph.backends.cuda.cudnn.operations import Convolution, Convolutions
from symgraph.errors import BackendError
from symgraph.graph.registry import OPS
from symgraph.lower.plan import CallStep
from tests.backends.no_driver import is_there, pretend
from tests.lower.cuda_host import COMPILER
from tests.lower.cuda_steps import B, step

MODULE, PROBLEM = found()
pytestmark = pytest.mark.skipif(MODULE is None, reason=f"cuDNN cannot plan: {PROBLEM}")
DESCRIPTION = Path(__file__).with_name("h200.json")


@pytest.fixture(scope="module", autouse=True)
def driver(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Engines that are compiled at run time ask a driver."""
    with_driver(tmp_path_factory.mktemp("driver"))


def with_driver(folder: Path) -> None:
    """Load a driver of ours where there is none."""
    places = importlib.util.find_spec("nvidia.cudnn")
    if is_there() or COMPILER is None or places is None:
        return
    (place,) = list(places.submodule_search_locations or ())[:1]
    pretend(Path(place) / "lib/libcudnn_graph.so.9", folder, COMPILER)


@cache
def convolutions() -> Convolutions:
    library = described(MODULE, DESCRIPTION.read_text(), capability=90, processors=132)
    return Convolutions(library)


def last(*dims: int) -> tuple[int, ...]:
    """The strides of an array whose channels are innermost."""
    _, c, *sizes = dims
    steps, step = [], c
    for size in reversed(sizes):
        steps.append(step)
        step *= size
    return (step, 1, *reversed(steps))


def plain(*dims: int) -> tuple[int, ...]:
    steps, step = [], 1
    for size in reversed(dims):
        steps.append(step)
        step *= size
    return tuple(reversed(steps))


def planned(name: str, *operands: Array, tf32: bool = False,
            result: Array, **attributes: Any) -> Convolution:  # fmt: skip
    rank = len(result.dims) - 2
    options = {
        "stride": (1,) * rank, "padding": ((0, 0),) * rank, "dilation": (1,) * rank, "groups": 1,
    } | attributes  # fmt: skip
    op = OPS[name](**options)
    return convolutions().prepare(op, operands, result, 64, tf32)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("lies", [last, plain])
def test_three_directions(dtype: str, lies: Any) -> None:
    image, filters, out = (32, 64, 27, 27), (128, 64, 3, 3), (32, 128, 27, 27)
    x, w, y = (Array(d, dtype, f(*d)) for d, f in ((image, lies), (filters, plain), (out, lies)))
    pads = {"padding": ((1, 1), (1, 1))}
    assert planned("conv", x, w, result=y, **pads).implementation
    assert planned("conv_input", y, w, result=x, sizes=(27, 27), **pads).implementation
    assert planned("conv_weight", x, y, result=w, kernel=(3, 3), **pads).implementation


@pytest.mark.parametrize(
    ("attributes", "filters", "out"),
    [
        ({"groups": 2}, (128, 32, 3, 3), (25, 25)),
        ({"dilation": (2, 2)}, (128, 64, 3, 3), (23, 23)),
        ({"stride": (2, 2), "padding": ((1, 1), (1, 1))}, (128, 64, 3, 3), (14, 14)),
        ({"padding": ((1, 0), (0, 2))}, (128, 64, 3, 3), (26, 27)),
        ({"groups": 64}, (64, 1, 3, 3), (25, 25)),
    ],
    ids=["groups", "dilation", "stride", "uneven pads", "depthwise"],
)
def test_windows(attributes: Any, filters: tuple[int, ...], out: tuple[int, int]) -> None:
    x = Array((8, 64, 27, 27), "bfloat16", last(8, 64, 27, 27))
    w = Array(filters, "bfloat16", plain(*filters))
    dims = (8, filters[0], *out)
    y = Array(dims, "bfloat16", last(*dims))
    for made in (
        planned("conv", x, w, result=y, **attributes),
        planned("conv_input", y, w, result=x, sizes=(27, 27), **attributes),
        planned("conv_weight", x, y, result=w, kernel=(3, 3), **attributes),
    ):
        assert made.implementation


@pytest.mark.parametrize(
    ("dims", "kernel", "out"),
    [
        ((4, 16, 50), (32, 16, 3), (4, 32, 48)),
        ((2, 16, 9, 9, 9), (32, 16, 3, 3, 3), (2, 32, 7, 7, 7)),
    ],
)
def test_one_axis_and_three(
    dims: tuple[int, ...], kernel: tuple[int, ...], out: tuple[int, ...]
) -> None:
    x, w = Array(dims, "bfloat16", last(*dims)), Array(kernel, "bfloat16", plain(*kernel))
    y = Array(out, "bfloat16", last(*out))
    sizes, taps = dims[2:], kernel[2:]
    for made in (
        planned("conv", x, w, result=y),
        planned("conv_input", y, w, result=x, sizes=sizes),
        planned("conv_weight", x, y, result=w, kernel=taps),
    ):
        assert made.implementation.startswith("cuDNN eng")


def test_groups_one_by_one_are_another_way() -> None:
    x, w = Array((8, 96, 27, 27), "float32", last(8, 96, 27, 27)), (256, 48, 5, 5)
    y = Array((8, 256, 27, 27), "float32", last(8, 256, 27, 27))
    filters, more = Array(w, "float32", plain(*w)), {"padding": ((2, 2), (2, 2)), "groups": 2}
    for made in (
        planned("conv", x, filters, result=y, **more),
        planned("conv_input", y, filters, result=x, sizes=(27, 27), **more),
        planned("conv_weight", x, y, result=filters, kernel=(5, 5), **more),
    ):
        ways = made.alternatives()
        apart = [one for one in ways if one.endswith(", group by group")]
        assert apart
        assert len(apart) < len(ways)
        assert made.choose(apart[0])
        assert made.implementation == apart[0]
        assert made.workspace >= 0
        assert not made.choose("cuDNN of another version")
        assert made.implementation == apart[0]


def test_what_was_chosen_is_taken_without_building_others() -> None:
    image, filters, out = (64, 256, 14, 14), (256, 256, 3, 3), (64, 256, 14, 14)
    y, w, x = (Array(d, "bfloat16", last(*d)) for d in (out, filters, image))
    more = {"sizes": (14, 14), "padding": ((1, 1), (1, 1))}
    made = planned("conv_input", y, w, result=x, **more)
    *_, wanted = made.alternatives()
    assert wanted != made.implementation
    again = planned("conv_input", y, w, result=x, **more)
    first = again.implementation
    assert again.choose(wanted)
    assert again.implementation == wanted
    graph = again._graph(0)
    built = {graph.plan_name(plan) for plan, good in graph._known.items() if good}
    assert built == {first.removeprefix("cuDNN "), wanted.removeprefix("cuDNN ")}


def test_an_address_that_cudnn_cannot_take() -> None:
    dims, kernel, out = (4, 16, 9, 9), (32, 16, 3, 3), (4, 32, 7, 7)
    x, w = Array(dims, "bfloat16", last(*dims)), Array(kernel, "bfloat16", plain(*kernel))
    op = OPS["conv"](stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1)
    with pytest.raises(BackendError, match="does not begin where 16 bytes do"):
        convolutions().prepare(op, (x, w), Array(out, "bfloat16", last(*out)), 4, False)


def test_strict_float32_keeps_away_from_tensor_cores() -> None:
    dims, kernel, out = (32, 64, 27, 27), (128, 64, 3, 3), (32, 128, 25, 25)
    arrays = Array(dims, "float32", last(*dims)), Array(kernel, "float32", plain(*kernel))
    result = Array(out, "float32", last(*out))
    strict = planned("conv", *arrays, result=result)
    loose = planned("conv", *arrays, result=result, tf32=True)
    assert strict.implementation != loose.implementation


def test_no_engine_is_an_error() -> None:
    x, w = (
        Array((1, 4, 5, 5), "float32", (1, 1, 1, 1)),
        Array((4, 4, 3, 3), "float32", (1, 1, 1, 1)),
    )
    made = planned("conv", x, w, result=Array((1, 4, 3, 3), "float32", plain(1, 4, 3, 3)))
    with pytest.raises(BackendError, match="cuDNN has no engine"):
        made.alternatives()


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("model", ["alexnet", "resnet50"])
def test_every_convolution_of_a_training_step(model: str, precision: str) -> None:
    graph = step(model, "bf16" if precision == "bf16" else "fp32")
    plan = offline.planned(graph, {B: 128}, narrow=precision == "bf16")
    count = 0
    for one in plan.steps:
        if isinstance(one, CallStep) and one.call.value.op.name in CONVOLUTIONS:
            asked = concrete(one.call, {B: 128})
            made, again = (convolutions().prepare(*asked, precision == "tf32") for _ in range(2))
            assert made.workspace < 2 << 30, one.name
            assert again.restore(made.implementation, made.saved()), one.name
            assert again.workspace == made.workspace, one.name
            count += 1
    assert count == {"alexnet": 3 * 5 - 1, "resnet50": 3 * 53 - 1}[model]
