"""Images that a network is trained on as networks of their own: sources, orders, the training."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import symgraph as sg
from models.common.classifier import Classifier, Data, open_data
from models.common.cursor import Epochs
from models.common.trainer import Training
from models.common.workers import supervise, team_of, transport_of
from symgraph.data import Dataset, InrImages, Pictures, open_inr, permutation, read_images
from symgraph.data.archives import is_archive
from symgraph.data.dataset import Images, Labels, Mean, check_indices
from symgraph.data.index import INDEX_FILE
from symgraph.errors import DataError
from symgraph.parallel import Step
from symgraph.parallel.step import Result

DIGITS, PHOTOS = "digits", "photos"
GREY = 127.5  # is subtracted from all bytes, in place of a mean image
VALIDATION = 5  # one tile in so many is for validation


@dataclass(frozen=True, eq=False)
class Held:
    """Images of one size in memory, as a data set whose mean is grey."""

    pixels: Images
    labels: Labels
    classes: list[str]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> int:
        """The side of the images."""
        return int(self.pixels.shape[-1])

    @property
    def mean_image(self) -> Mean:
        """Grey: float32 (3, S, S)."""
        return np.full(self.pixels.shape[1:], GREY, np.float32)

    def read(self, indices: npt.ArrayLike) -> tuple[Images, Labels]:
        """Give images and labels."""
        wanted = check_indices(indices, len(self), "read")
        return self.pixels[wanted], self.labels[wanted]


@dataclass(frozen=True, eq=False)
class WithGreyMean:
    """A data set whose images keep their own mean: what is subtracted is grey."""

    of: Dataset

    def __len__(self) -> int:
        return len(self.of)

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        return list(self.of.classes)

    @property
    def image_size(self) -> int:
        """The side of the images."""
        return self.of.image_size

    @property
    def mean_image(self) -> Mean:
        """Grey: float32 (3, S, S)."""
        return np.full((3, self.image_size, self.image_size), GREY, np.float32)

    def read(self, indices: npt.ArrayLike) -> tuple[Images, Labels]:
        """Give images and labels."""
        return self.of.read(indices)


def tiles(size: int) -> Pictures:
    """Cut the two photographs that ship with scikit-learn into tiles, china and flower in turn.

    Raises `DataError` where scikit-learn is missing, or a tile is larger than a photograph.
    """
    try:
        from sklearn.datasets import load_sample_images
    except ImportError as error:
        raise DataError(
            "the photographs ship with scikit-learn, which is not installed.",
            fix="pip install symgraph[models]",
        ) from error
    cut: list[list[Images]] = []
    for photo in load_sample_images().images:
        height, width = photo.shape[:2]
        if size > min(height, width):
            raise DataError(
                f"the photographs are {height} x {width}: there are no tiles of {size} pixels.",
                fix=f"--size of at most {min(height, width)}",
            )
        cut.append([
            np.ascontiguousarray(photo[top : top + size, left : left + size].transpose(2, 0, 1))
            for top in range(0, height - size + 1, size)
            for left in range(0, width - size + 1, size)
        ])  # fmt: skip
    pairs = [(tile, label) for both in zip(*cut, strict=True) for label, tile in enumerate(both)]
    labels = np.array([label for _, label in pairs], np.int32)
    return Pictures([tile for tile, _ in pairs], labels, ("china", "flower"))


def pictures(name: str, size: int | None, limit: int | None = None) -> Pictures:
    """Give the training images that a word on the command line means, the first `limit` of them.

    `digits`, `photos` (tiles), a prepared data set, CIFAR or MNIST as published, or a folder of
    images, which keep their own sizes unless `size` is given.
    """
    if name == PHOTOS:
        found = _split(tiles(size or 32), validation=False)
    elif name != DIGITS and not is_archive(name) and not (Path(name) / INDEX_FILE).exists():
        return read_images(name, size, limit=limit)
    else:
        train = open_data(name, size or 32).train
        images, labels = train.read(np.arange(min(len(train), limit or len(train))))
        found = Pictures(list(images), labels, tuple(train.classes))
    return Pictures(found.images[:limit], found.labels[:limit], found.classes)


def _split(found: Pictures, *, validation: bool) -> Pictures:
    """Give every fifth pair of tiles for validation, or the others."""
    chosen = [k for k in range(len(found.images)) if (k // 2 % VALIDATION == 0) == validation]
    return Pictures([found.images[k] for k in chosen], found.labels[chosen], found.classes)


def open_grey(name: str, size: int) -> Data:
    """Open the two splits of a data set, with grey in place of its mean image."""
    if name == PHOTOS:
        both = [_split(tiles(size), validation=which) for which in (False, True)]
        held = [Held(np.stack(one.images), one.labels, list(one.classes)) for one in both]
        return Data(held[0], held[1], mirror=True)
    data = open_data(name, size)
    return Data(WithGreyMean(data.train), WithGreyMean(data.validation), data.mirror)


@dataclass(frozen=True, eq=False)
class Numbers:
    """The numbers of a step's images on one rank; `row` is the place of the first among all."""

    indices: npt.NDArray[np.int32]
    row: int
    epoch: int

    def __len__(self) -> int:
        return len(self.indices)


class Orders(Epochs[Numbers]):
    """Gives the numbers of images in a new order for each epoch.

    What does not fill a batch is left out, as published.
    """

    def __init__(self, count: int, batch: int, seed: int, rank: int = 0, ranks: int = 1) -> None:
        if batch > count:
            raise DataError(
                f"a set of {count} images does not fill a batch of {batch}.",
                fix="a smaller --batch",
            )
        super().__init__(count // batch, images=count)
        self.images, self.batch, self.seed, self._made = count, batch, seed, -1
        # of each batch
        self._first, self._last = (-(-batch * one // ranks) for one in (rank, rank + 1))

    def part(self, epoch: int, position: int) -> Numbers:
        """Give the numbers of one batch."""
        order = self._order(epoch)
        start = position * self.batch
        return Numbers(order[start + self._first : start + self._last], self._first, epoch)

    def _order(self, epoch: int) -> npt.NDArray[np.int32]:
        if self._made != epoch:
            self._made = epoch
            self._numbers = permutation(self.images, self.seed, epoch).astype(np.int32)
        return self._numbers


class InrTraining(Training):
    """One run of an image classifier whose images are decoded in its step."""

    def prepare(self) -> None:
        """Open both sets, and make the network, its update rule, the schedule and the orders."""
        model, chosen, team = self.model, self.chosen, self.team
        self.data = model.open(chosen.data)
        self.images = InrImages(open_inr(str(model.settings["set"])))
        self.classes = list(self.images.set.classes)
        if self.classes != list(self.data.validation.classes):
            raise DataError(
                f"the set {model.settings['set']} has the classes {', '.join(self.classes[:5])}; "
                f"{chosen.data} has {', '.join(list(self.data.validation.classes)[:5])}.",
                fix="give the images that the set was made of with --data",
            )
        self.net = model.build(len(self.classes))
        self.optimizer = model.optimizer(self.net, chosen.learning_rate)
        self.schedule = model.schedule(chosen.learning_rate)
        self.loader = Orders(len(self.images), chosen.batch, chosen.seed, team.rank, team.size)

    def step_of(self, rule: sg.optim.Optimizer) -> Step:
        """Compile a step of all workers with an update rule, and the decoder in it."""
        model, chosen = self.model, self.chosen
        indices = sg.tensor("indices", (sg.dim("B"),), "int32")
        pixels = self.images.pixels(
            indices, model.size, model.size, crop=model.crop, pad=int(model.settings["pad"]),
            mirror=self.data.mirror, random=True,
        )  # fmt: skip
        logits = self.net(pixels - np.float32(GREY), train=True)
        loss = sg.nn.cross_entropy(logits, self.images.label(indices)).mean()
        return sg.parallel.train_step(
            self.team, [indices], loss, rule,
            average=chosen.average, every=chosen.average_every, backend=self.backend,
            transport=transport_of(chosen, self.team),
        )  # fmt: skip

    def take(self, batch: Any, *, settle: bool) -> Result:
        """Take a step on this worker's images."""
        step = self.freezing.at(batch.epoch)
        return step(batch.indices, row=batch.row, settle=settle)


def train(model: Classifier, chosen: argparse.Namespace) -> int:
    """Train a model as the command line says, on as many workers; give the exit status."""
    team = team_of(chosen)
    if team is None:
        return supervise(model.name, chosen)
    status = InrTraining(model, chosen, team).run()
    team.close()
    return status
