"""What is saved comes back bit by bit, and the safetensors library agrees on every byte."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import symgraph
from symgraph.errors import ArgumentError, ArgumentTypeError, CheckpointError, DTypeError
from symgraph.io import load_checkpoint, read_checkpoint_header, save_checkpoint
from symgraph.io.__main__ import main

DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "float8_e5m2", "complex64",
    "complex128",
)  # fmt: skip
SHAPES = ((), (0,), (1,), (7,), (3, 0, 2), (2, 3, 5), (1, 1, 1, 4), (0, 2**40), (2,) * 10)
STEP = {"step": 1}


def dtype_of(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name)) if hasattr(ml_dtypes, name) else np.dtype(name)


def filled(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Give an array of random bits: NaNs with payloads, negative zeros and all."""
    dtype = dtype_of(name)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    count = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    return rng.integers(0, 256, count, dtype=np.uint8).view(dtype).reshape(shape)


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_and_shape(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    tensors = {str(shape): filled(name, shape, rng) for shape in SHAPES}
    path = save_checkpoint(tmp_path / "one.safetensors", tensors, {})
    checkpoint = load_checkpoint(path)
    assert list(checkpoint.tensors) == list(tensors)
    for key, expected in tensors.items():
        found = checkpoint.tensors[key]
        assert_same(found, expected)
        assert found.flags.writeable
        assert found.flags.c_contiguous
    expected_signature = {str(shape): (shape, name) for shape in SHAPES}
    assert checkpoint.signature == expected_signature
    assert read_checkpoint_header(path).signature == expected_signature


# The library has no NumPy types for 8-bit floats.
@pytest.mark.parametrize("name", [name for name in DTYPES if not name.startswith("float8")])
def test_safetensors_reads_what_we_write(
    name: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    library = pytest.importorskip("safetensors.numpy")
    tensors = {str(shape): filled(name, shape, rng) for shape in SHAPES if 2**40 not in shape}
    path = save_checkpoint(tmp_path / "one.safetensors", tensors, {"model": "tiny", "step": 3})
    found = library.load_file(path)
    assert found.keys() == tensors.keys()
    for key, expected in tensors.items():
        if name == "complex128":
            parts = np.ascontiguousarray(found[key])
            assert (parts.dtype, parts.shape[-1]) == (np.float64, 2)
            assert_same(parts.reshape(-1).view(name).reshape(expected.shape), expected)
        else:
            assert_same(found[key], expected)


def test_which_arrays_are_complex_is_the_only_thing_added(tmp_path: Path) -> None:
    """The note is no part of `meta`, and files without complex128 are as they were."""
    plain = save_checkpoint(tmp_path / "a.safetensors", {"w": np.ones(2)}, STEP)
    assert load_checkpoint(plain).meta["format"] == 1
    numbers = {"w": np.ones((3, 2)), "z": np.array(1 - 2j), "y": np.zeros((0, 4), "c16")}
    found = load_checkpoint(save_checkpoint(tmp_path / "b.safetensors", numbers, STEP))
    assert found.meta["format"] == 2
    assert found.meta.keys() == {"format", "kind", "versions", "step"}
    assert found.signature["z"] == ((), "complex128")
    big = {"z": np.array([[1j, 2.0]], ">c16").T}
    again = load_checkpoint(save_checkpoint(tmp_path / "c.safetensors", big, found.meta))
    np.testing.assert_array_equal(again.tensors["z"], [[1j], [2.0]])
    with pytest.raises(ArgumentError, match=r"'complex128_tensors'.* is written by symgraph"):
        save_checkpoint(tmp_path / "d.safetensors", {}, {"complex128_tensors": ["z"]})


def test_safetensors_reads_our_metadata(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    meta = {"model": "tiny", "step": 3, "settings": {"rate": 0.1, "data": "grün"}}
    save_checkpoint(tmp_path / "one.safetensors", {"w": np.zeros(2)}, meta)
    with safetensors.safe_open(tmp_path / "one.safetensors", "numpy") as file:
        found = file.metadata()
    assert len(found.pop("sha256")) == 64
    assert json.loads(found["kind"]) == "symgraph checkpoint"
    assert {key: json.loads(found[key]) for key in meta} == meta


def test_what_others_write_is_refused(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy")
    tensors = {"w": np.arange(6, dtype=np.float32)}
    library.save_file(tensors, tmp_path / "theirs.safetensors")
    text = "theirs.safetensors is a safetensors file, but no symgraph checkpoint: .* kind = "
    for read in (load_checkpoint, read_checkpoint_header):
        with pytest.raises(CheckpointError, match=text):
            read(tmp_path / "theirs.safetensors")


def test_what_others_rewrote_is_refused(tmp_path: Path) -> None:
    """Its digest is that of another file, or stands where nothing can trust it."""
    safetensors = pytest.importorskip("safetensors")
    library = pytest.importorskip("safetensors.numpy")
    path = save_checkpoint(tmp_path / "one.safetensors", {"w": np.arange(6.0)}, STEP)
    with safetensors.safe_open(path, "numpy") as file:
        meta = file.metadata()
    library.save_file({"w": np.arange(6.0)}, path, metadata=meta)
    assert read_checkpoint_header(path).meta["step"] == 1
    with pytest.raises(CheckpointError, match=r"does not begin with a sha256|sha256 differs"):
        load_checkpoint(path)


def test_arrays_that_are_no_plain_block_of_memory(tmp_path: Path) -> None:
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    read_only = base.copy()
    read_only.flags.writeable = False
    tensors: dict[str, Any] = {
        "transposed": base.T,
        "strided": base[::2, ::-3],
        "broadcast": np.broadcast_to(base[0], (3, 6)),
        "big endian": base.astype(">f4"),
        "fortran": np.asfortranarray(base),
        "read only": read_only,
        "scalar": np.float32(2.5),
    }
    found = load_checkpoint(save_checkpoint(tmp_path, tensors, STEP)).tensors
    for name, expected in tensors.items():
        np.testing.assert_array_equal(found[name], expected)
        assert found[name].dtype == np.float32
        assert found[name].flags.writeable


def test_no_tensors_at_all(tmp_path: Path) -> None:
    assert load_checkpoint(save_checkpoint(tmp_path, {}, STEP)).tensors == {}


def test_every_array_is_aligned_in_the_file(tmp_path: Path, rng: np.random.Generator) -> None:
    tensors = {f"{name} {n}": filled(name, (n,), rng) for name in DTYPES for n in (1, 3)}
    raw = save_checkpoint(tmp_path, tensors, STEP).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    del header["__metadata__"]
    assert length % 8 == 0
    for name, entry in header.items():
        assert entry["data_offsets"][0] % tensors[name].dtype.itemsize == 0


NAMES = ("w", "layer.0.weight", "a/b", "with space", "größe", "π", "a\\b", '"', "{", "x" * 512)


def test_names(tmp_path: Path) -> None:
    tensors = {name: np.array([number]) for number, name in enumerate(NAMES)}
    found = load_checkpoint(save_checkpoint(tmp_path, tensors, STEP)).tensors
    assert {name: int(array[0]) for name, array in found.items()} == {
        name: number for number, name in enumerate(NAMES)
    }


META: dict[str, Any] = {
    "step": 12,
    "epoch": 3,
    "seed": 2**63 - 1,
    "random_state": {"state": 2**127 + 1, "inc": -5},
    "settings": {"rate": 0.1, "tiny": 5e-324, "data": "größer \u2028 \x00", "none": None},
    "list": [[], {}, [1, [2.5, True]], "x"],
    "": "the empty key",
    "infinity": [float("inf"), float("-inf")],
}


def test_meta(tmp_path: Path) -> None:
    loaded = load_checkpoint(save_checkpoint(tmp_path, {}, META))
    written = {key: loaded.meta[key] for key in ("format", "kind", "versions")}
    assert {key: value for key, value in loaded.meta.items() if key not in written} == META
    assert written == {
        "format": 1,
        "kind": "symgraph checkpoint",
        "versions": {
            "symgraph": symgraph.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def test_meta_of_numpy_and_tuples(tmp_path: Path) -> None:
    meta = {"step": np.int64(4), "rate": np.float32(0.5), "on": np.bool_(True), "shape": (1, (2,))}
    found = load_checkpoint(save_checkpoint(tmp_path, {}, meta)).meta
    assert (found["step"], found["rate"], found["on"]) == (4, 0.5, True)
    assert found["shape"] == [1, [2]]
    nan = load_checkpoint(save_checkpoint(tmp_path, {}, {"step": 1, "loss": float("nan")}))
    assert np.isnan(nan.meta["loss"])


def test_a_loaded_meta_can_be_saved_again(tmp_path: Path) -> None:
    first = load_checkpoint(save_checkpoint(tmp_path, {}, META))
    forged = {**first.meta, "format": 99, "kind": "forged", "versions": None, "sha256": "0"}
    assert load_checkpoint(save_checkpoint(tmp_path, {}, forged)).meta == first.meta


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_what_may_be_saved_can_be_read(tmp_path: Path) -> None:
    """The limit of nesting is the same on the way out and on the way in."""
    deepest = {"step": 1, "deep": nested(32)}
    assert load_checkpoint(save_checkpoint(tmp_path, {}, deepest)).meta["deep"] == nested(32)
    with pytest.raises(ArgumentError, match=r"meta\['deep'\]\[0\].* is nested more than 32 deep"):
        save_checkpoint(tmp_path, {}, {"step": 2, "deep": nested(33)})


_texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=8,
)
_RESERVED = {"format", "kind", "versions", "sha256"}


@given(meta=st.dictionaries(_texts.filter(lambda key: key not in _RESERVED), _values, max_size=4))
def test_any_meta(tmp_path_factory: pytest.TempPathFactory, meta: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    save_checkpoint(path, {}, meta)
    found = load_checkpoint(path).meta
    assert {key: value for key, value in found.items() if key not in _RESERVED} == meta


REFUSED_TENSORS: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "no string": (3, np.zeros(1), ArgumentTypeError, "name of a tensor is a string, not 3"),
    "empty": ("", np.zeros(1), ArgumentError, "the name is empty or reserved"),
    "reserved": ("__metadata__", np.zeros(1), ArgumentError, "the name is empty or reserved"),
    "long": ("x" * 513, np.zeros(1), ArgumentError, "longer than 512 characters"),
    "escape": ("a\x1b[2J", np.zeros(1), ArgumentError, "cannot be printed"),
    "surrogate": ("\ud800", np.zeros(1), ArgumentError, "cannot be printed"),
    "parent": ("a/../../b", np.zeros(1), ArgumentError, "a path that leaves its folder"),
    "absolute": ("/etc/passwd", np.zeros(1), ArgumentError, "a path that leaves its folder"),
    "list": ("w", [1.0], ArgumentTypeError, "tensor 'w' must be a NumPy array, not list"),
    "masked": ("w", np.ma.masked_equal([1.0, 2.0], 2.0), ArgumentTypeError, "not MaskedArray"),
    "object": ("w", np.array([None]), DTypeError, "'w' has dtype object, which .* cannot hold"),
    "text": ("w", np.array(["a"]), DTypeError, "'w' has dtype <U1"),
    "wide": ("w", np.zeros(1, np.clongdouble), DTypeError, "'w' has dtype complex256"),
    "pairs": ("w", np.zeros((1,) * 32, "c16"), ArgumentError, "32 dims; .* 31 of complex128"),
    "dims": ("w", np.zeros((1,) * 33), ArgumentError, "'w' has 33 dims; .* at most 32"),
}


@pytest.mark.parametrize("case", REFUSED_TENSORS)
def test_tensors_that_cannot_be_stored(tmp_path: Path, case: str) -> None:
    name, array, kind, text = REFUSED_TENSORS[case]
    kept = save_checkpoint(tmp_path, {"w": np.ones(2)}, STEP)
    with pytest.raises(kind, match=text):
        save_checkpoint(tmp_path, {"fine": np.zeros(3), name: array}, STEP)
    assert list(tmp_path.iterdir()) == [kept]


REFUSED_META: dict[str, tuple[dict[Any, Any], type[Exception], str]] = {
    "array": ({"mean": [np.zeros(2)]}, ArgumentTypeError, r"meta\['mean'\]\[0\] is a ndarray"),
    "set": ({"a": {"b": {1}}}, ArgumentTypeError, r"meta\['a'\]\['b'\] is a set, which JSON"),
    "path": ({"data": Path("x")}, ArgumentTypeError, r"meta\['data'\] is a PosixPath"),
    "bytes": ({"data": b"x"}, ArgumentTypeError, r"meta\['data'\] is a bytes"),
    "key": ({3: 1}, ArgumentTypeError, "the keys of meta are strings, not 3"),
    "inner key": ({"a": {3: 1}}, ArgumentTypeError, r"meta\['a'\] has the key 3"),
    "surrogate": ({"a": "\ud800"}, ArgumentError, r"meta\['a'\] is no valid Unicode"),
    "surrogate key": ({"a": {"\ud800": 1}}, ArgumentError, r"meta\['a'\] is no valid Unicode"),
    "outer key": ({"\ud800": 1}, ArgumentError, "is no valid Unicode"),
    "huge": ({"a": "x" * (17 << 20)}, ArgumentError, "more than the 16777216 allowed"),
    "bool step": ({"step": True}, ArgumentError, r"meta\['step'\] must be .*, not True"),
    "negative step": ({"step": -1}, ArgumentError, r"meta\['step'\] must be .*, not -1"),
    "no step": ({"step": None}, ArgumentError, r"meta\['step'\] must be .*, not None"),
    "long step": ({"step": 10**18}, ArgumentError, r"meta\['step'\] must be .* below 10\*\*18"),
}


@pytest.mark.parametrize("case", REFUSED_META)
def test_meta_that_cannot_be_stored(tmp_path: Path, case: str) -> None:
    meta, kind, text = REFUSED_META[case]
    kept = save_checkpoint(tmp_path, {"w": np.ones(2)}, STEP)
    with pytest.raises(kind, match=text):
        save_checkpoint(tmp_path, {"w": np.ones(2)}, {**STEP, **meta})
    assert list(tmp_path.iterdir()) == [kept]


def test_the_command_prints_the_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = {"w": np.zeros((2, 3), np.float32), "b": np.zeros(())}
    path = save_checkpoint(tmp_path, tensors, {"step": 7, "model": "grün"})
    for arguments in ([str(path)], [str(tmp_path)], [str(tmp_path), "--verify"]):
        assert main(arguments) == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed["path"] == str(path)
        assert (printed["step"], printed["model"]) == (7, "grün")
        assert printed["tensors"] == {"w": "float32[2, 3]", "b": "float64[]"}
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert main([str(path)]) == 0
    capsys.readouterr()
    assert main([str(path), "--verify"]) == 1
    assert capsys.readouterr().err.startswith(f"error: checkpoint {path} cannot be read: its bytes")
