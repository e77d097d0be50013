"""Sets of images as networks in a file: what was written comes back, damage is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from symgraph.data.inrset import InrLayer, InrSet, open_inr, quantised
from symgraph.data.siren import Siren
from symgraph.errors import ArgumentError, DataError, DataMissingError
from symgraph.io.boundedjson import encode_json
from symgraph.io.tensorfile import read_header, read_tensors, write_tensors

SIREN = Siren(layers=2, width=5)
COUNT = 3


def sample(dtypes: tuple[str, ...] = ("float32",) * 3, kept: int | None = None) -> InrSet:
    """Three images of random numbers; `kept` of each matrix but the first are not zero."""
    rng = np.random.default_rng(1)
    layers = []
    for number, ((outputs, inputs), dtype) in enumerate(zip(SIREN.sizes, dtypes, strict=True)):
        weight = rng.normal(size=(COUNT, outputs, inputs)).astype(np.float32)
        if number and kept is not None:
            flat = weight.reshape(COUNT, -1)
            for row in flat:
                row[rng.permutation(len(row))[kept:]] = 0
        bias = rng.normal(size=(COUNT, outputs)).astype(np.float32)
        layers.append(quantised(weight, bias, dtype, kept if number else None))
    sizes = np.array([[8, 8], [4, 9], [8, 8]], np.int32)
    labels = np.array([0, 1, 1], np.int32)
    return InrSet(SIREN, tuple(layers), sizes, labels, ("a", "b"), np.ones(COUNT, np.float32))


MIXED = ("float16", "int8", "float16")


@pytest.mark.parametrize(
    ("dtypes", "kept"),
    [(("float32",) * 3, None), (("float16",) * 3, 7), (MIXED, None), (("int8",) * 3, 4)],
)
def test_what_was_written_comes_back(
    tmp_path: Path, dtypes: tuple[str, ...], kept: int | None
) -> None:
    made = sample(dtypes, kept)
    path = made.save(tmp_path / "sub" / "set.safetensors")
    found = open_inr(path)
    assert (found.siren, found.classes, len(found)) == (SIREN, ("a", "b"), COUNT)
    for one, other in zip(made.layers, found.layers, strict=True):
        assert (one.weight.dtype, one.kept) == (other.weight.dtype, other.kept)
        for mine, theirs in zip(one.floats(), other.floats(), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    for name in ("sizes", "labels", "errors"):
        np.testing.assert_array_equal(getattr(found, name), getattr(made, name))
    assert 0 < path.stat().st_size - found.stored < 2000  # the header
    assert found.stored == made.stored
    assert found.raw == 3 * (64 + 36 + 64)


def test_whole_matrices_stay_in_the_file(tmp_path: Path) -> None:
    found = open_inr(sample().save(tmp_path / "set.safetensors"))
    weight = found.layers[1].weight
    assert not weight.flags.writeable
    assert not weight.flags.owndata
    sample(MIXED).save(tmp_path / "set.safetensors")  # a new file of that name: ours stays
    np.testing.assert_array_equal(weight, sample().layers[1].weight)


def test_pruned_and_rounded_numbers_take_fewer_bytes() -> None:
    dense, half = sample(), sample(("float16",) * 3)
    # 5 x 2, 5 x 5 and 3 x 5 weights, 13 biases; sizes, label and error of an image take 16 bytes
    assert dense.stored == COUNT * (4 * (50 + 13) + 16)
    assert half.stored == COUNT * (2 * (50 + 13) + 16)
    pruned = sample(("int8",) * 3, kept=4)
    masks = 4 + 2  # bytes of 25 and of 15 bits
    assert pruned.stored == COUNT * (10 + 4 + 4 + masks + 3 * 4 + 2 * 13 + 16)
    assert pruned.held == COUNT * (50 + 3 * 4 + 2 * 13)


def test_a_number_that_is_kept_may_be_zero(tmp_path: Path) -> None:
    made = sample(kept=4)
    made.layers[1].weight[0] = 0
    found = open_inr(made.save(tmp_path / "set.safetensors"))
    np.testing.assert_array_equal(found.layers[1].weight, made.layers[1].weight)


def test_int8_rounds_to_the_nearest_of_254_steps() -> None:
    weight = np.array([[[1.0, -0.25], [0.1, 0.0]], [[0, 0], [0, 0]]], np.float32)
    layer = quantised(weight, np.zeros((2, 2), np.float32), "int8")
    assert layer.weight[0].tolist() == [[127, -32], [13, 0]]
    np.testing.assert_allclose(layer.floats()[0], weight, atol=0.5 / 127)
    assert not layer.floats()[0][1].any()
    with pytest.raises(ArgumentError, match="dtype must be one of float32, float16, int8"):
        quantised(weight, weight[..., 0], "int4")
    with pytest.raises(ArgumentError, match=r"float16 holds no numbers as large as 1e\+06"):
        quantised(weight, weight[..., 0] * np.float32(1e6), "int8")
    tiny = quantised(np.full((1, 2, 2), 1e-45, np.float32), np.zeros((1, 2), np.float32), "int8")
    assert not tiny.floats()[0].any()
    assert (tiny.scale == 1).all()


def rewritten(path: Path, **changes: Any) -> None:
    """Write a set anew with other tensors (None: without) or metadata, and a digest that fits."""
    with path.open("rb") as file:
        header = read_header(file, path)
        tensors = read_tensors(file, header, path)
    texts = {key: text for key, text in header.metadata.items() if key != "sha256"}
    for name, value in changes.items():
        if name in texts:
            texts[name] = encode_json(value, name)
        elif value is None:
            del tensors[name.replace("_", ".")]
        else:
            tensors[name.replace("_", ".")] = value
    with path.open("wb") as file:
        write_tensors(file, tensors, texts)


NETWORK = {"layers": 2, "width": 5, "omega": 30.0}
DAMAGED = {
    "kind": ({"kind": "cake"}, "does not say kind = 'symgraph inr set'"),
    "format": ({"format": 2}, "it has format 2, this version reads up to 1"),
    "no format": ({"format": True}, "its format is True, not a number from 1 on"),
    "width": ({"network": {**NETWORK, "width": 10**9}}, "its network is none"),
    "network": ({"network": {"layers": 2}}, "its network needs exactly layers, width and omega"),
    "other width": ({"network": {**NETWORK, "width": 6}}, "'weight.0' is float32 .*, not float32"),
    "classes": ({"classes": [1]}, "its classes are no list of names"),
    "fewer classes": ({"classes": ["a"]}, r"a label lies outside of 0 \.\. 0"),
    "missing": ({"bias_1": None}, "it lacks the tensor 'bias.1'"),
    "surplus": ({"bias_7": np.zeros(3)}, "it holds a tensor too many: 'bias.7'"),
    "dtype": ({"labels": np.zeros(3)}, "'labels' is float64"),
    "negative": ({"labels": np.full(3, -1, np.int32)}, "a label lies outside"),
    "sides": ({"sizes": np.full((3, 2), 1 << 30, np.int32)}, "a side lies outside of 1 .. 4096"),
    "nan": ({"errors": np.full(3, np.nan, np.float32)}, "'errors' holds NaN or infinity"),
    "below zero": ({"errors": np.full(3, -1, np.float32)}, "'errors' holds errors below 0"),
    "mask": ({"mask_1": np.full((3, 4), 255, np.uint8)}, "mask.1 does not have as many bits"),
    "empty": ({"labels": np.zeros(0, np.int32)}, "'sizes' is int32"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_named(tmp_path: Path, name: str) -> None:
    changes, message = DAMAGED[name]
    path = sample(kept=4).save(tmp_path / "set.safetensors")
    rewritten(path, **changes)
    with pytest.raises(DataError, match=message) as info:
        open_inr(path)
    assert str(path) in str(info.value)


def test_a_scale_of_zero_is_damage(tmp_path: Path) -> None:
    path = sample(MIXED).save(tmp_path / "set.safetensors")
    rewritten(path, scale_1=np.zeros(3, np.float32))
    with pytest.raises(DataError, match=r"'scale\.1' holds scales that are not above 0"):
        open_inr(path)


def test_every_byte_is_checked(tmp_path: Path) -> None:
    path = sample().save(tmp_path / "set.safetensors")
    good = path.read_bytes()
    for place in range(0, len(good), 37):
        path.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
        with pytest.raises(DataError, match="the set of images"):
            open_inr(path)
    path.write_bytes(good[:-1])
    with pytest.raises(DataError, match="cut short"):
        open_inr(path)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataMissingError, match="does not exist"):
        open_inr(tmp_path / "none")
    with pytest.raises(DataError, match="is no regular file"):
        open_inr(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be written"):
        sample().save(tmp_path / "file" / "set")


def test_what_could_not_be_opened_is_not_written(tmp_path: Path) -> None:
    made = sample()
    made.errors[1] = np.inf
    with pytest.raises(DataError, match="'errors' holds NaN or infinity"):
        made.save(tmp_path / "set.safetensors")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ArgumentError, match="the target must be a finite number, got nan"):
        made.check_target(float("nan"))


def test_other_images_are_told_from_those_of_the_set() -> None:
    made = sample()
    made.check_sizes([[8, 8], [4, 9], [8, 8]])
    with pytest.raises(DataError, match="image 1 is 9 x 4, in the set it is 4 x 9"):
        made.check_sizes([[8, 8], [9, 4], [8, 8]])
    with pytest.raises(DataError, match="holds 3 images, 2 are there"):
        made.check_sizes([[8, 8], [4, 9]])


def test_it_says_what_it_holds() -> None:
    assert repr(sample(MIXED)) == "InrSet(3 images, 2 x 5 float16/int8, 73.8 % of RGB, 48.1 dB)"
    assert isinstance(sample().layers[0], InrLayer)
