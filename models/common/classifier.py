"""What every image classifier does: compile a step and a measurement, evaluate, predict."""

from __future__ import annotations

import argparse
import struct
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import symgraph as sg
from models.common import saved
from models.common.runs import find_checkpoint
from models.common.workers import backend_of
from symgraph.backends.choice import device_number
from symgraph.data import (
    Augment,
    Batch,
    Dataset,
    Loader,
    centre_crop,
    digits,
    load_image,
    open_archive,
    open_dataset,
)
from symgraph.data.archives import is_archive
from symgraph.data.dataset import Mean
from symgraph.errors import DataError
from symgraph.function import Function
from symgraph.graph.node import Value
from symgraph.io import Checkpoint
from symgraph.parallel import Alone, Step, Team


@dataclass(frozen=True)
class Classifier:
    """A model as the shared trainer sees it.

    `build(classes)` makes the network, `optimizer(net, lr)` its update rule, `schedule(lr)` the
    rate by epoch; `crop` is the side of its input, `first_layer(net)` the filters worth drawing,
    `size` the side to which the digits are enlarged. A model with flags of its own says in
    `settings` which values it was made with, and `variant(**settings)` makes it with others: a run
    keeps its values in its checkpoints. `opener(name, size)` opens data sets of its own. `shrink`
    changes a network that was built, and `policy` says what of it is frozen when
    (`symgraph.compression.freeze_sets`).
    """

    name: str
    crop: int
    build: Callable[[int], sg.nn.Module]
    optimizer: Callable[[sg.nn.Module, float], sg.optim.Optimizer]
    schedule: Callable[[float], sg.optim.Schedule]
    first_layer: Callable[[sg.nn.Module], Value]
    size: int = 256
    settings: Mapping[str, int | float | str] = field(default_factory=dict)
    variant: Callable[..., Classifier] | None = None
    opener: Callable[[str, int], Data] | None = None
    shrink: Callable[[sg.nn.Module], None] = lambda net: None
    policy: str = "none"

    def open(self, name: str) -> Data:
        """Open the data set that a word on the command line means."""
        return (self.opener or open_data)(name, self.size)

    @property
    def kinds(self) -> dict[str, type]:
        """The type of each setting in a checkpoint, by name."""
        return saved.SETTINGS | {name: type(value) for name, value in self.settings.items()}

    def with_settings(self, values: Mapping[str, Any]) -> Classifier:
        """Make the variant with these values of its settings; what is not given stays as it is."""
        if self.variant is None:
            return self
        return self.variant(**{name: values.get(name, own) for name, own in self.settings.items()})

    def of(self, checkpoint: Checkpoint) -> Classifier:
        """Make the variant that wrote a checkpoint."""
        kinds = self.kinds
        return self.with_settings(
            {name: saved.setting(checkpoint, name, kinds[name]) for name in self.settings}
        )

    def make(self, classes: int, start: Checkpoint | None = None) -> sg.nn.Module:
        """Make the network, with the weights of a checkpoint of its dense form, and shrink it."""
        net = self.build(classes)
        if start is not None:
            saved.restore(start, self.name, net)
        self.shrink(net)
        return net

    def graph(self) -> Function:
        """Compile a training step for 1,000 classes, to be looked at: `symgraph show`."""
        net = self.make(1000)
        return train_step(net, self.optimizer(net, 0.01), self.crop)


@dataclass(frozen=True)
class Data:
    """The two splits of a data set, and whether its images may be mirrored."""

    train: Dataset
    validation: Dataset
    mirror: bool


@dataclass(frozen=True)
class Score:
    """The measured quality on some images."""

    images: int
    loss: float
    top1: float
    top5: float

    def text(self) -> str:
        """Say it in one line."""
        return (
            f"validation accuracy {100 * self.top1:.1f} %  (top-5 {100 * self.top5:.1f} %, "
            f"loss {self.loss:.4f}, {self.images} images)"
        )

    def record(self) -> dict[str, float]:
        """Give what stands in a line of the metrics."""
        return {"accuracy": self.top1, "top5": self.top5, "loss": self.loss}


def open_data(name: str, size: int = 256) -> Data:
    """Open a prepared data set, CIFAR or MNIST as published, or scikit-learn's digits.

    The digits are enlarged to `size`, and are not mirrored, nor are those of MNIST.
    """
    if name == "digits":
        return Data(digits(size, "train"), digits(size, "validation"), mirror=False)
    if is_archive(name):
        published = open_archive(name)
        return Data(published, open_archive(name, "validation"), published.mirror)
    return Data(open_dataset(name, split="train"), open_dataset(name, split="validation"), True)


def inputs(crop: int) -> tuple[Value, Value]:
    """Make the symbolic batch: images (B, 3, crop, crop) and labels (B,)."""
    batch = sg.dim("B")
    images = sg.tensor("images", (batch, 3, crop, crop))
    return images, sg.tensor("labels", (batch,), "int32")


def batch_inputs(crop: int, mean: Mean | None = None) -> tuple[list[Value], Value, Value]:
    """Make the symbolic batch: what a step is given, the images that a network sees, and labels.

    With a mean image, whole images are given as bytes, and are cut, mirrored and centred in the
    step, with the bits that a loader would have made.
    """
    if mean is None:
        images, labels = inputs(crop)
        return [images, labels], images, labels
    batch, side = sg.dim("B"), mean.shape[-1]
    whole = sg.tensor("pixels", (batch, 3, side, side), "uint8")
    labels, top, left = (sg.tensor(name, (batch,), "int32") for name in ("labels", "top", "left"))
    mirror = sg.tensor("mirror", (batch,), "bool")
    images = sg.crop_mirror(whole, crop, top, left, mirror, mean)
    return [whole, labels, top, left, mirror], images, labels


def train_step(net: sg.nn.Module, optimizer: sg.optim.Optimizer, crop: int) -> Function:
    """Compile one step of one worker: images, labels -> mean loss, with all updates."""
    return team_step(Alone(), net, optimizer, crop).local


def team_step(
    team: Team,
    net: sg.nn.Module,
    optimizer: sg.optim.Optimizer,
    crop: int,
    *,
    average: str = "grads",
    every: int = 1,
    backend: str | None = None,
    transport: str = "shm",
    mean: Mean | None = None,
) -> Step:
    """Compile a step of all workers: a batch -> mean loss, with all updates."""
    given, images, labels = batch_inputs(crop, mean)
    loss = sg.nn.cross_entropy(net(images, train=True), labels).mean()
    return sg.parallel.train_step(
        team, given, loss, optimizer,
        average=average, every=every, backend=backend, transport=transport,
    )  # fmt: skip


def measurement(
    net: sg.nn.Module, crop: int, backend: str | None = None, mean: Mean | None = None
) -> Function:
    """Compile a measurement: a batch -> sums of loss, top-1 and top-5 hits."""
    given, images, labels = batch_inputs(crop, mean)
    logits = net(images)
    _, best = sg.topk(logits, min(5, int(logits.shape[1])))
    hits = sg.equal(best, sg.expand_dims(labels, 1))
    return sg.function(
        given,
        {
            "loss": sg.nn.cross_entropy(logits, labels).sum(),
            "top1": sg.cast(hits[:, 0], "int64").sum(),
            "top5": sg.cast(hits.any(axis=1), "int64").sum(),
        },
        name="measurement",
        backend=backend,
    )


@dataclass
class Tally:
    """What was measured so far, on this worker or on several."""

    images: int = 0
    loss: float = 0.0
    top1: int = 0
    top5: int = 0

    def add(self, measure: Function, batch: Batch) -> None:
        """Measure a batch, which may have no images."""
        if len(batch):
            found = measure(*batch.inputs)
            self.images += len(batch)
            self.loss += found["loss"].item()
            self.top1 += found["top1"].item()
            self.top5 += found["top5"].item()

    def gathered(self, team: Team) -> Tally:
        """Add up those of all workers, in the order of their ranks."""
        parts = [_TALLY.unpack(one) for one in team.gather(_TALLY.pack(*astuple(self)))]
        return Tally(*(sum(column) for column in zip(*parts)))

    def score(self) -> Score:
        """Give the means."""
        count = self.images
        return Score(count, self.loss / count, self.top1 / count, self.top5 / count)


_TALLY = struct.Struct("<qdqq")


def loading(backend: str | None) -> dict[str, Any]:
    """Give a loader's options: for a GPU images are brought there as bytes, and cut there."""
    meant = backend or sg.config.backend
    return {"cropped": False, "device": meant} if device_number(meant) >= 0 else {}


def subtracted(dataset: Dataset, backend: str | None) -> Mean | None:
    """Give the mean image that a step subtracts; None where the loader has done it."""
    return dataset.mean_image if loading(backend) else None


def validation_loader(
    data: Data, batch: int, crop: int, team: Team | None = None, backend: str | None = None
) -> Loader:
    """Make the loader of the validation images, of a worker's share: centre crops, stored order."""
    rank, ranks = (team.rank, team.size) if team else (0, 1)
    return Loader(
        data.validation, batch, shuffle=False, augment=Augment(crop, train=False),
        rank=rank, ranks=ranks, **loading(backend),
    )  # fmt: skip


def evaluate(model: Classifier, chosen: argparse.Namespace) -> int:
    """Measure a checkpoint on the validation images."""
    checkpoint = saved.load(find_checkpoint(chosen.checkpoint, model.name), model.name)
    model = model.of(checkpoint)
    name = chosen.data if "data" in chosen.given else saved.setting(checkpoint, "data")
    data = model.open(name)
    classes = saved.class_names(checkpoint)
    if list(data.validation.classes) != classes:
        raise DataError(
            f"evaluate: {checkpoint.path} was trained on {len(classes)} classes "
            f"({', '.join(classes[:3])}, ...), the data set has {len(data.validation.classes)} "
            f"({', '.join(list(data.validation.classes)[:3])}, ...).",
            fix="give the data set that it was trained on with --data",
        )
    net = model.make(len(classes))
    saved.restore(checkpoint, model.name, net)
    backend, tally = backend_of(chosen), Tally()
    measure = measurement(net, model.crop, backend, subtracted(data.validation, backend))
    with validation_loader(data, chosen.batch, model.crop, backend=backend) as loader:
        for batch in loader:
            tally.add(measure, batch)
    print(tally.score().text())
    return 0


def predict(model: Classifier, chosen: argparse.Namespace) -> int:
    """Name what pictures show."""
    checkpoint = saved.load(find_checkpoint(chosen.checkpoint, model.name), model.name)
    model = model.of(checkpoint)
    classes = saved.class_names(checkpoint)
    mean = checkpoint.tensors[saved.MEAN]
    pictures = [load_image(Path(name), mean.shape[-1]) for name in chosen.images]
    net = model.make(len(classes))
    saved.restore(checkpoint, model.name, net)
    images, _ = inputs(model.crop)
    likely = sg.function(
        [images], sg.softmax(net(images), axis=1), name="prediction", backend=backend_of(chosen)
    )
    for name, picture in zip(chosen.images, pictures, strict=True):
        chances = likely(centre_crop(picture[None], model.crop, mean=mean))[0]
        best = np.argsort(-chances, kind="stable")[: chosen.top]
        print(f"{name}: " + ", ".join(f"{classes[i]} {100 * chances[i]:.1f} %" for i in best))
    return 0
