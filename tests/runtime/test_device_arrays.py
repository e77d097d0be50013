"""Arrays of a device go in and out of functions without a trip, on a device that is this CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import (
    ArgumentTypeError,
    GuardError,
    InputError,
)
from tests.backends.foreign_arrays import (
    MAKERS,
    Interface,
    Stream,
    Streaming,
    Tensor,
    affine,
    aligned,
)
from tests.backends.host_device import HostArray, HostDevice
from tests.lower.cuda_host import COMPILER

pytestmark = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")


def reads(order: list[tuple[str, int]]) -> int:
    """Give the place after the last step that reads or writes."""
    return max(k for k, (what, _) in enumerate(order) if what in ("launch", "copy", "gather")) + 1


@pytest.mark.parametrize("capture", [True, False])
def test_every_protocol_goes_in_without_a_trip(capture: bool, host: HostDevice) -> None:
    f = affine()
    x, y = aligned((6, 8)), aligned((8,), 1)
    before = x.tobytes(), y.tobytes()
    expected = [x * 2 + y, x.sum(axis=0)]
    with sg.config(capture=capture):
        f(x, y)
        for make in MAKERS.values():
            for _ in range(2):
                uploads, downloads, copies = host.uploads, host.downloads, host.copies
                for one, wanted in zip(f(make(host, x), make(host, y)), expected):
                    assert type(one) is np.ndarray
                    np.testing.assert_allclose(one, wanted, rtol=1e-6)
                assert host.uploads == uploads
                assert host.downloads == downloads + 2, "the outputs"
                assert host.copies == copies + (2 if capture else 0)
    assert host.gathers == 0
    assert (x.tobytes(), y.tobytes()) == before
    assert (host.replays > 0) == capture
    mixed = f(x, Tensor(y))
    np.testing.assert_allclose(mixed[0], expected[0], rtol=1e-6)


def test_any_order_is_put_in_order_on_the_device(host: HostDevice) -> None:
    f = affine()
    wide = aligned((16, 16))
    views = [wide[:, ::2], wide[::-1, 8:], wide.T[4:, :8], np.broadcast_to(wide[0, :8], (5, 8))]
    y = wide[3, ::2]
    for make in (MAKERS["own"], MAKERS["dlpack"], MAKERS["interface"]):
        for view in views:
            if view.flags.writeable:  # NumPy exports no other by DLPack
                found, _ = f(make(host, view), make(host, y))
                np.testing.assert_allclose(found, view * 2 + y, rtol=1e-6)
    view = views[3]
    np.testing.assert_allclose(f(Interface(view), Interface(y))[0], view * 2 + y, rtol=1e-6)
    assert host.gathers > 0


def test_what_lies_across_lines_is_copied_where_steps_are_not_recorded(host: HostDevice) -> None:
    f = affine()
    x, y = aligned((7, 8)), aligned((8,), 1)
    with sg.config(capture=False):
        found, _ = f(Tensor(x[1:].reshape(-1)[4:-4].reshape(5, 8)), Tensor(y))
    np.testing.assert_allclose(found, x.reshape(-1)[12:-4].reshape(5, 8) * 2 + y, rtol=1e-6)
    assert host.copies == 1


@pytest.mark.parametrize("capture", [True, False])
def test_producers_are_waited_for(capture: bool, host: HostDevice) -> None:
    f = affine()
    y = aligned((8,), 1)

    def late(make: Callable[[Any, Callable[[], None]], Any]) -> Any:
        """Give an array whose numbers are written when somebody waits for its stream."""
        x = np.full((4, 8), np.nan, np.float32)
        return make(x, lambda: x.fill(3))

    def queued(stream: int, made: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
        def make(x: Any, work: Any) -> Any:
            host.pending[stream] = [work]
            return made(x)

        return make

    host.current = 4
    makers = [
        lambda x, work: Tensor(x, work=work),
        queued(9, Streaming),
        queued(5, lambda x: Interface(x, 5)),
        queued(6, lambda x: Interface(x, Stream(6))),
        queued(4, lambda x: HostArray(host, x)),
    ]
    with sg.config(capture=capture):
        for make in makers:
            for _ in range(3):
                np.testing.assert_allclose(f(late(make), Tensor(y))[0], 6 + np.tile(y, (4, 1)))
    x = Tensor(np.ones((4, 8), np.float32))
    f(x, Tensor(y))
    assert x.asked == [host.stream]


@pytest.mark.parametrize("capture", [True, False])
@pytest.mark.parametrize(
    ("make", "waits"),
    [("own", ("lead", 4)), ("interface", ("lead", 5)), ("dlpack", ("settle", 0)),
     ("dlpack, stream", ("lead", 9)), ("interface, no stream", ("settle", 0))],
)  # fmt: skip
def test_owners_may_write_again_as_soon_as_a_call_returns(
    make: str, waits: tuple[str, int], capture: bool, host: HostDevice
) -> None:
    host.current = 4
    f = affine(outputs_on="device")
    x, y = aligned((4, 8)), aligned((8,), 1)
    with sg.config(capture=capture):
        for _ in range(3):
            host.order.clear()
            f(MAKERS[make](host, x), MAKERS[make](host, y))
            if capture:  # they were copied: the step itself is not waited for
                at = host.order.index(waits)
                taken = {("copy", x.ctypes.data), ("copy", y.ctypes.data)}
                assert taken <= set(host.order[:at])
                assert waits[0] == "lead" or waits not in host.order[at + 1 :]
            else:
                assert waits in host.order[reads(host.order) :]


# -- outputs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("capture", [True, False])
def test_outputs_stay_and_are_nobody_elses(capture: bool, host: HostDevice) -> None:
    x = sg.tensor("x", (sg.dim("array_batch"), 8))
    doubled = x * 2
    f = sg.function([x], {"a": doubled, "b": doubled, "c": x, "d": doubled + 1},
                    backend="cuda", outputs_on="device")  # fmt: skip
    host.current = 4
    kept = []
    with sg.config(capture=capture):
        for seed in range(4):
            numbers = aligned((3, 8), seed)
            host.order.clear()
            downloads, copies = host.downloads, host.copies
            found = f(Tensor(numbers))
            assert host.downloads == downloads
            assert host.copies - copies == (5 if capture else 0), "an input and four outputs"
            own = host.order.index(("follow", 4))
            assert not any(what == "launch" for what, _ in host.order[:own])
            assert host.order.index(("lead", 4)) >= reads(host.order)
            kept.append((numbers.copy(), found))
            numbers[...] = 0
    for numbers, found in kept:
        assert list(found) == ["a", "b", "c", "d"]
        assert all(type(one) is HostArray for one in found.values())
        for name, wanted in zip("abcd", (numbers * 2, numbers * 2, numbers, numbers * 2 + 1)):
            np.testing.assert_allclose(found[name].numbers, wanted, rtol=1e-6)
        arrays = [one.numbers for one in found.values()]
        assert not any(np.shares_memory(a, b) for a in arrays for b in arrays if a is not b)


def test_what_stays_goes_into_the_next_function(host: HostDevice) -> None:
    f, g = affine(outputs_on="device"), affine()
    x, y = aligned((4, 8)), aligned((8,), 1)
    middle, _ = f(x, y)
    g(x, y)
    downloads, uploads = host.downloads, host.uploads
    found, _ = g(middle, y)
    np.testing.assert_allclose(found, (x * 2 + y) * 2 + y, rtol=1e-5)
    assert (host.uploads - uploads, host.downloads - downloads) == (1, 2)


def test_training_without_a_trip(host: HostDevice) -> None:
    x = sg.tensor("x", (sg.dim("array_batch"), 8))
    w = sg.shared(np.ones(8, np.float32), "w")
    loss = ((x * w).sum(axis=1) ** 2).mean()
    updates = {w: w - 0.01 * sg.grad(loss, w)}
    step = sg.function([x], loss, updates, backend="cuda", outputs_on="device")
    read = sg.function([], w, backend="cuda", outputs_on="device")
    numbers = aligned((4, 8))
    step(Tensor(numbers))
    trips = host.downloads, host.uploads
    losses = [step(Tensor(numbers)) for _ in range(4)]
    now = read()
    assert (host.downloads, host.uploads) == trips
    values = [float(one.numbers) for one in losses]
    assert values == sorted(values, reverse=True)
    np.testing.assert_array_equal(now.numbers, w.value)


def test_outputs_of_a_guarded_function_stay_though_the_reference_computed_them(
    host: HostDevice,
) -> None:
    x = sg.tensor("x", (3,))
    f = sg.function([x], sg.log(x), nan_guard=True, backend="cuda", outputs_on="device")
    meant = f(Tensor(np.array([1, np.inf, 2], np.float32)))
    assert type(meant) is HostArray
    np.testing.assert_allclose(meant.numbers, np.log([1, np.inf, 2]), rtol=1e-6)
    with pytest.raises(sg.errors.NotFiniteError, match="log"):
        f(Tensor(np.array([1, -1, 2], np.float32)))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_outputs_stay_on_no_other_backend(backend: str) -> None:
    x = sg.tensor("x", (3,))
    with pytest.raises(ArgumentTypeError, match=f"not of the backend {backend}"):
        sg.function([x], x * 2, backend=backend, outputs_on="device")
    with pytest.raises(ArgumentTypeError, match="'gpu' is no place"):
        sg.function([x], x * 2, backend=backend, outputs_on="gpu")


# -- dtypes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("capture", [True, False])
def test_bfloat16(capture: bool, host: HostDevice) -> None:
    x = sg.tensor("x", (4, 4), "bfloat16")
    f = sg.function([x], [x * 2, x.cast("float32")], backend="cuda", outputs_on="device")
    numbers = np.arange(16).reshape(4, 4).astype(ml_dtypes.bfloat16)
    with sg.config(capture=capture):
        for given in (Tensor(numbers), Tensor(numbers, versioned=False), HostArray(host, numbers)):
            narrow, wide = f(given)
            assert narrow.dtype == ml_dtypes.bfloat16
            np.testing.assert_array_equal(narrow.numbers, numbers * 2)
            np.testing.assert_array_equal(wide.numbers, numbers.astype(np.float32))
        turned, _ = f(HostArray(host, numbers.T))
        np.testing.assert_array_equal(turned.numbers, numbers.T * 2)


def test_what_loses_nothing_is_converted_there(host: HostDevice) -> None:
    x = sg.tensor("x", (2, 3))
    f = sg.function([x], x * 2, backend="cuda")
    f(np.zeros((2, 3), np.float32))
    uploads = host.uploads
    for dtype in ("uint8", "int16", "float16", "bool", ml_dtypes.bfloat16):
        numbers = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
        np.testing.assert_array_equal(f(Tensor(numbers)), numbers.astype(np.float32) * 2)
    assert host.uploads == uploads


# -- errors ----------------------------------------------------------------------------------------


def test_what_is_refused_is_refused_as_of_numpy_and_never_fetched(host: HostDevice) -> None:
    f = affine()
    y = aligned((8,))
    for wrong in (np.zeros((4, 8)), np.zeros((4, 8), np.int64), np.zeros(8, np.float32),
                  np.zeros((4, 9), np.float32), np.zeros((4, 8), np.complex64)):  # fmt: skip
        with pytest.raises((InputError, GuardError)) as expected:
            f(wrong, y)
        for make in MAKERS.values():
            with pytest.raises(type(expected.value)) as caught:
                f(make(host, wrong), y)
            assert str(caught.value) == str(expected.value)
    assert host.downloads == 0


def test_an_array_on_another_device_is_one_sentence(host: HostDevice) -> None:
    f = affine()
    x, y = aligned((4, 8)), aligned((8,))
    tensor = Tensor(x, number=1)
    with pytest.raises(InputError) as caught:
        f(tensor, y)
    assert str(caught.value) == (
        "f: `x` lies on cuda:1, it is needed on cuda:0.\n"
        "  fix: with cupy.cuda.Device(0): array = cupy.array(array); "
        'or compile with backend="cuda:1"'
    )
    assert tensor.asked == [], "nothing is queued for a device that will not be used"
    host.elsewhere[x.ctypes.data] = 2
    with pytest.raises(InputError, match="`x` lies on cuda:2, it is needed on cuda:0"):
        f(Interface(x), y)
    host.elsewhere[x.ctypes.data] = None  # managed
    np.testing.assert_allclose(f(Interface(x), y)[0], x * 2 + y, rtol=1e-6)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_function_of_the_cpu_takes_no_array_on_a_device(backend: str, host: HostDevice) -> None:
    x = sg.tensor("x", (3,))
    f = sg.function([x], x * 2, name="f", backend=backend)
    numbers = np.ones(3, np.float32)
    f(numbers)
    for given in (Tensor(numbers), HostArray(host, numbers), Interface(numbers)):
        with pytest.raises(InputError) as caught:
            f(given)
        assert str(caught.value) == (
            "f: `x` lies on a CUDA device, the function runs on the CPU.\n"
            '  fix: array.get() in CuPy, tensor.cpu() in PyTorch; or compile with backend="cuda"'
        )
    with pytest.raises(InputError, match="eval: `x` lies on a CUDA device"):
        (x * 2).eval({x: Tensor(numbers)})
    np.testing.assert_array_equal(f(Tensor(numbers, kind=1).numbers), 2)


class Refusing(Tensor):
    def __dlpack__(self, **options: Any) -> Any:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")


class Used(Tensor):
    def __dlpack__(self, **options: Any) -> Any:
        return None


class Strange(Tensor):
    code, major = 4, 1

    def __dlpack__(self, **options: Any) -> Any:
        from symgraph.backends.cuda import dlpack
        from tests.backends.foreign_arrays import told

        capsule = super().__dlpack__(stream=1, max_version=(1, 0))
        told(capsule).dtype.code = self.code
        dlpack._Versioned.from_address(
            dlpack._pointer(capsule, b"dltensor_versioned")
        ).major = self.major
        return capsule


class Newer(Strange):
    code, major = 2, 2


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (Refusing, "`x` cannot be read where it lies: Can't export tensors that require"),
        (Used, "`x` gives no DLPack capsule, or one that was used"),
        (Strange, r"`x` has a dtype that NumPy does not know \(DLPack: code 4, 32 bits, 1 lanes"),
        (Newer, r"`x` speaks DLPack 2\.\d, 1.x is known here"),
        (lambda a: Interface(a, mask=Interface(a)), "`x` has a mask"),
        (lambda a: Interface(a.astype(">f4")), "`x` is of foreign byte order"),
        (lambda a: Interface(a, Stream(5, 1)), "`x` speaks version 1 of __cuda_stream__"),
    ],
)
def test_what_cannot_be_read_says_why(make: Any, sentence: str, host: HostDevice) -> None:
    x = sg.tensor("x", (3,))
    f = sg.function([x], x * 2, name="f", backend="cuda")
    with pytest.raises(InputError, match=f"^f: {sentence}"):
        f(make(np.ones(3, np.float32)))


def test_a_check_that_fails_is_explained(host: HostDevice) -> None:
    rows, at = sg.tensor("rows", (4, 3)), sg.tensor("at", (2,), "int32")
    f = sg.function([rows, at], sg.take(rows, at, axis=0), backend="cuda", outputs_on="device")
    numbers = aligned((4, 3))
    for capture in (True, True, False):
        with sg.config(capture=capture), pytest.raises(sg.errors.IndexRangeError, match="7"):
            f(HostArray(host, numbers.T.copy().T), Tensor(np.array([0, 7], np.int32)))
    found = f(Tensor(numbers), Tensor(np.array([1, 3], np.int32)))
    np.testing.assert_array_equal(found.numbers, numbers[[1, 3]])


def test_tools_take_arrays_of_a_device(host: HostDevice) -> None:
    f = affine()
    given = Tensor(aligned((4, 8))), HostArray(host, aligned((8, 2), 1)[:, 0])
    assert sg.check(f, *given) is None
    assert f.profile(*given, repeat=1).rows
