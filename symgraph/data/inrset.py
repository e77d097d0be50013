"""A set of images kept as small networks, and the file that it lies in.

One safetensors file. `N` images, layers from 0 on; a matrix lies there whole or, where numbers were
pruned, as those that are kept and a bit for each place. All matrices of a layer keep as many::

    weight.<k>   N x outputs x inputs   float32, float16 or int8
    value.<k>    N x kept               instead of weight.<k>
    mask.<k>     N x bytes              of value.<k>: a bit for each place, row by row
    scale.<k>    N                      float32, where the numbers of layer k are int8
    bias.<k>     N x outputs            float32 or float16
    sizes N x 2  labels N  errors N     height and width; class; mean squared error in bytes
    metadata                            kind, format, network, classes
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from symgraph.data.dataset import Labels
from symgraph.data.images import MAX_SIZE
from symgraph.data.npy import shown
from symgraph.data.siren import COLOURS, Floats, Siren, psnr
from symgraph.errors import ArgumentError, CheckpointError, DataError, DataMissingError
from symgraph.frozen import frozen
from symgraph.io.atomic import atomic_file, remove_stale_partials
from symgraph.io.boundedjson import decode_json, encode_json
from symgraph.io.tensorfile import map_tensors, read_header, write_tensors

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int32]

FORMAT = 1
KIND = "symgraph inr set"
DTYPES = ("float32", "float16", "int8")
MOST = 127  # the largest int8 that is used: as many below zero as above


@frozen(eq=False)
class InrLayer:
    """One layer of all images: weights (N, outputs, inputs), biases (N, outputs).

    Of int8 the weights are `scale` (N,) times these; `kept` says how many of each matrix are not
    pruned, where some are.
    """

    weight: Array
    bias: Array
    scale: Floats | None = None
    kept: int | None = None

    def floats(self, rows: Any = slice(None)) -> tuple[Floats, Floats]:
        """Give weights and biases as float32, of all images or of some."""
        weight = np.asarray(self.weight[rows], np.float32)
        if self.scale is not None:
            weight = weight * self.scale[rows][..., None, None]
        return weight, np.asarray(self.bias[rows], np.float32)


@frozen(eq=False)
class InrSet:
    """Images as networks: `layers`, sizes (N, 2), labels (N,), class names, mean squared errors.

    Errors are in units of a byte, of the pixels that the networks give, rounded to bytes.
    """

    siren: Siren
    layers: tuple[InrLayer, ...]
    sizes: Integers
    labels: Labels
    classes: tuple[str, ...]
    errors: Floats

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def __repr__(self) -> str:
        kinds = "/".join(dict.fromkeys(str(layer.weight.dtype) for layer in self.layers))
        return (
            f"InrSet({len(self)} images, {self.siren.layers} x {self.siren.width} {kinds}, "
            f"{100 * self.stored / self.raw:.1f} % of RGB, {float(self.psnr.mean()):.1f} dB)"
        )

    @property
    def psnr(self) -> npt.NDArray[np.float64]:
        """The quality of each image in decibels; infinite where every byte is right."""
        return psnr(self.errors)

    @property
    def raw(self) -> int:
        """How many bytes the pixels take as they are."""
        return int(COLOURS * np.prod(self.sizes.astype(np.int64), axis=1).sum())

    @property
    def stored(self) -> int:
        """How many bytes the networks take in a file, with sizes and labels."""
        return sum(array.nbytes for array in self._tensors().values())

    @property
    def held(self) -> int:
        """How many bytes the networks take in the memory of a device; pruned numbers are zeros."""
        return sum(
            array.nbytes
            for layer in self.layers
            for array in (layer.weight, layer.bias, layer.scale)
            if array is not None
        )

    def missed(self, target: float) -> list[int]:
        """List the images that are worse than a target in decibels.

        Raises `ArgumentError` for a target that is no number.
        """
        if not math.isfinite(target):
            raise ArgumentError(f"InrSet: the target must be a finite number, got {target}.")
        return [int(place) for place in np.flatnonzero(self.psnr < target)]

    def check_target(self, target: float) -> None:
        """Raise `DataError` that names the images which are worse than a target in decibels."""
        if not (missed := self.missed(target)):
            return
        worst = min(missed, key=lambda place: float(self.psnr[place]))
        raise DataError(
            f"{len(missed)} of {len(self)} images do not reach {target:g} dB: "
            f"{', '.join(map(str, missed[:5]))}{', ...' if len(missed) > 5 else ''}.",
            details=[f"worst : image {worst}, {float(self.psnr[worst]):.1f} dB"],
            fix="more steps, more width or layers, or a lower target",
        )

    def check_sizes(self, sizes: npt.ArrayLike) -> None:
        """Raise `DataError` unless images have these heights and widths (N, 2), in this order."""
        given = np.asarray(sizes)
        if given.shape != self.sizes.shape:
            raise DataError(
                f"the set holds {len(self)} images, {len(given)} are there to be compared with.",
                fix="give the images that it was made of",
            )
        wrong = np.flatnonzero((given != self.sizes).any(axis=1))
        if len(wrong):
            first = int(wrong[0])
            kept, other = self.sizes[first].tolist(), given[first].tolist()
            raise DataError(
                f"image {first} is {other[0]} x {other[1]}, "
                f"in the set it is {kept[0]} x {kept[1]}.",
                fix="give the images that it was made of",
            )

    def _tensors(self) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for number, layer in enumerate(self.layers):
            if layer.kept is None:
                found[f"weight.{number}"] = layer.weight
            else:
                mask = layer.weight.reshape(len(self), -1) != 0
                mask = _filled(mask, layer.kept)
                found[f"value.{number}"] = layer.weight.reshape(mask.shape)[mask].reshape(
                    len(self), layer.kept
                )
                found[f"mask.{number}"] = np.packbits(mask, axis=1)
            found[f"bias.{number}"] = layer.bias
            if layer.scale is not None:
                found[f"scale.{number}"] = layer.scale
        return {**found, "sizes": self.sizes, "labels": self.labels, "errors": self.errors}

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the file, which appears whole or not at all.

        Raises `DataError` where it cannot be written, or holds what `open_inr` would refuse; what
        was there before is untouched.
        """
        target = Path(path)
        tensors = self._tensors()
        for name, array in tensors.items():
            if (wrong := _wrong_numbers(name, array)) is not None:
                raise DataError(
                    f"{shown(target)} cannot be written: {name!r} {wrong}.",
                    fix="fit again, with a lower rate or in float32",
                )
        document = {
            "kind": KIND,
            "format": FORMAT,
            "network": {
                "layers": self.siren.layers, "width": self.siren.width,
                "omega": float(self.siren.omega),
            },
            "classes": list(self.classes),
        }  # fmt: skip
        texts = {key: encode_json(value, key) for key, value in document.items()}
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            remove_stale_partials(target.parent)
            with atomic_file(target) as file:
                write_tensors(file, tensors, texts)
        except OSError as error:
            raise DataError(f"{shown(target)} cannot be written: {error.strerror}.") from error
        return target


def open_inr(path: str | os.PathLike[str]) -> InrSet:
    """Open the file of a set; every byte is checked once, and what lies there whole stays there.

    Raises `DataMissingError` where there is none, and `DataError` for one that is damaged, of
    another kind or of a later format.
    """
    found = Path(path)
    try:
        if not stat.S_ISREG(found.stat().st_mode):
            raise DataError(f"{shown(found)} is no regular file.")
        with found.open("rb") as file:
            header = read_header(file, shown(found))
            document = _document(header.metadata, found)
            tensors = map_tensors(file, header, shown(found))
    except FileNotFoundError:
        raise DataMissingError(
            f"{shown(found)} does not exist.", fix="make it: models/rapid_inr.py encode"
        ) from None
    except OSError as error:
        raise DataError(f"{shown(found)} cannot be read: {error.strerror}.") from error
    except CheckpointError as error:
        message = error.message.replace("checkpoint ", "the set of images ", 1)
        raise DataError(message, details=error.details, fix=error.fix) from None
    return _Reader(found, tensors, *document).whole()


def _refuse(path: Path, what: str, fix: str = "") -> NoReturn:
    raise DataError(f"the set of images {shown(path)} cannot be read: {what}.", fix=fix)


def _document(metadata: Mapping[str, str], path: Path) -> tuple[Siren, tuple[str, ...]]:
    """Give what the metadata says, checked: the network and the names of the classes."""
    known: dict[str, Any] = {}
    for key in ("kind", "format", "network", "classes"):
        try:
            known[key] = decode_json(metadata.get(key, "null"), strict=True)
        except ValueError as error:
            _refuse(path, f"its metadata `{key}` is damaged: {error}")
    if known["kind"] != KIND:
        _refuse(path, f"it is something else: its header does not say kind = {KIND!r}")
    number = known["format"]
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        _refuse(path, f"its format is {number!r:.40}, not a number from 1 on")
    if number > FORMAT:
        _refuse(
            path, f"it has format {number}, this version reads up to {FORMAT}",
            "use the version of symgraph that wrote it, or a newer one",
        )  # fmt: skip
    network, classes = known["network"], known["classes"]
    if not isinstance(network, dict) or set(network) != {"layers", "width", "omega"}:
        _refuse(path, "its network needs exactly layers, width and omega")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        _refuse(path, "its classes are no list of names")
    try:
        return Siren(**network), tuple(classes)
    except ArgumentError as error:
        _refuse(path, f"its network is none: {error.message}")


@frozen
class _Reader:
    """The tensors of a file that are checked one by one."""

    path: Path
    tensors: dict[str, Array]
    siren: Siren
    classes: tuple[str, ...]

    def whole(self) -> InrSet:
        labels = self.take("labels", (None,), "int32")
        count = len(labels)
        sizes = self.take("sizes", (count, 2), "int32")
        errors = self.take("errors", (count,), "float32")
        if not count:
            _refuse(self.path, "it holds no images")
        if int(labels.min()) < 0 or int(labels.max()) >= max(len(self.classes), 1):
            _refuse(self.path, f"a label lies outside of 0 .. {len(self.classes) - 1}")
        if int(sizes.min()) < 1 or int(sizes.max()) > MAX_SIZE:
            _refuse(self.path, f"a side lies outside of 1 .. {MAX_SIZE} pixels")
        layers = [self.layer(k, count, *shape) for k, shape in enumerate(self.siren.sizes)]
        if self.tensors:
            _refuse(self.path, f"it holds a tensor too many: {next(iter(self.tensors))!r:.60}")
        return InrSet(self.siren, tuple(layers), sizes, labels, self.classes, errors)

    def layer(self, number: int, count: int, outputs: int, inputs: int) -> InrLayer:
        kept = None
        if f"value.{number}" in self.tensors:
            values = self.take(f"value.{number}", (count, None), *DTYPES)
            kept = values.shape[1]
            weight = self.spread(number, values, outputs * inputs).reshape(count, outputs, inputs)
        else:
            weight = self.take(f"weight.{number}", (count, outputs, inputs), *DTYPES)
        scale = self.take(f"scale.{number}", (count,), "float32") if weight.dtype == "i1" else None
        bias = self.take(f"bias.{number}", (count, outputs), *DTYPES[:2])
        return InrLayer(weight, bias, scale, kept)

    def spread(self, number: int, values: Array, places: int) -> Array:
        """Put kept numbers where the bits of their mask are."""
        name = f"mask.{number}"
        packed = self.take(name, (len(values), -(-places // 8)), "uint8")
        mask = np.unpackbits(packed, axis=1, count=places).astype(np.bool_)
        if (mask.sum(axis=1) != values.shape[1]).any():
            _refuse(self.path, f"{name} does not have as many bits as there are numbers")
        weight = np.zeros(mask.shape, values.dtype)
        weight[mask] = values.reshape(-1)
        return weight

    def take(self, name: str, shape: Sequence[int | None], *dtypes: str) -> Array:
        """Take a tensor out, of this shape (None: any) and one of these dtypes, and finite."""
        array = self.tensors.pop(name, None)
        if array is None:
            _refuse(self.path, f"it lacks the tensor {name!r}")
        fits = array.ndim == len(shape) and all(
            wanted in (None, size) for wanted, size in zip(shape, array.shape, strict=True)
        )
        if not fits or array.dtype.name not in dtypes:
            wanted = " x ".join("any" if size is None else str(size) for size in shape)
            _refuse(
                self.path,
                f"{name!r} is {array.dtype} {array.shape}, not {' or '.join(dtypes)} of {wanted}",
            )
        if (wrong := _wrong_numbers(name, array)) is not None:
            _refuse(self.path, f"{name!r} {wrong}")
        return array


def _wrong_numbers(name: str, array: Array) -> str | None:
    """Say what is wrong with the numbers of a tensor, if anything is."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return "holds NaN or infinity"
    if name == "errors" and (array < 0).any():
        return "holds errors below 0"
    if name.startswith("scale.") and (array <= 0).any():
        return "holds scales that are not above 0"
    return None


def _filled(mask: npt.NDArray[np.bool_], kept: int) -> npt.NDArray[np.bool_]:
    """Add places to the rows of a mask that have less than `kept`: a kept number may be zero."""
    order = np.argsort(~mask, axis=1, kind="stable")[:, :kept]
    full = np.zeros_like(mask)
    np.put_along_axis(full, order, True, axis=1)
    return full


def quantised(weight: Floats, bias: Floats, dtype: str, kept: int | None = None) -> InrLayer:
    """Make a layer of float32 weights (N, outputs, inputs) and biases (N, outputs).

    int8 has one scale for each matrix: its largest magnitude is 127 steps; the biases are float16.
    Raises `ArgumentError` for another dtype, and for numbers that float16 does not hold.
    """
    if dtype not in DTYPES:
        raise ArgumentError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r:.40}.")
    if dtype != "int8":
        return InrLayer(_held(weight, dtype), _held(bias, dtype), None, kept)
    scale = np.abs(weight).max(axis=(1, 2)) / np.float32(MOST)
    scale = np.where(scale > 0, scale, 1).astype(np.float32)
    steps = np.rint(weight / scale[:, None, None])
    return InrLayer(
        np.clip(steps, -MOST, MOST).astype(np.int8), _held(bias, "float16"), scale, kept
    )


def _held(numbers: Floats, dtype: str) -> Array:
    """Convert to a float dtype; raises `ArgumentError` for numbers that become infinite."""
    with np.errstate(over="ignore"):
        found: Array = numbers.astype(dtype)
    if not np.isfinite(found).all():
        largest = float(np.abs(numbers).max())
        raise ArgumentError(
            f"{dtype} holds no numbers as large as {largest:.3g}.", fix="float32 does"
        )
    return found
