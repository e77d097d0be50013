"""Training of the image classifiers, on one worker or several."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

import symgraph as sg
from models.common import saved
from models.common.classifier import (
    Classifier,
    Data,
    Score,
    Tally,
    evaluate,
    loading,
    measurement,
    predict,
    subtracted,
    team_step,
    validation_loader,
)
from models.common.commandline import check_device
from models.common.interrupt import Interrupted, wait_for_batch
from models.common.loop import Run
from models.common.lowrank import choose_ranks, start_of
from models.common.pictures import plot_filters
from models.common.workers import loads_in_process, supervise, team_of, transport_of
from symgraph.compression import Freezing, freeze_sets
from symgraph.data import Augment, Batch, Loader
from symgraph.errors import CheckpointError
from symgraph.io import Checkpoint
from symgraph.parallel.step import Result, Step


class Training(Run):
    """One run of an image classifier."""

    TASK = saved.IMAGES

    def prepare(self) -> None:
        """Open the images, and make the network, its update rule, the schedule and the loader."""
        model, chosen, team = self.model, self.chosen, self.team
        self.data: Data = model.open(chosen.data)
        self.classes = list(self.data.train.classes)
        self.net = model.make(len(self.classes), start_of(model, chosen))
        self.optimizer = model.optimizer(self.net, chosen.learning_rate)
        self.schedule = model.schedule(chosen.learning_rate)
        augment = Augment(model.crop, seed=chosen.seed, mirror=self.data.mirror)
        self.loader = Loader(
            self.data.train, chosen.batch, seed=chosen.seed, augment=augment,
            rank=team.rank, ranks=team.size, process=loads_in_process(chosen, team),
            **loading(self.backend),
        )  # fmt: skip

    def compile(self) -> None:
        """Compile the steps of all workers, one for each freeze set, and the measurement."""
        # Variables of several workers lie in one arena, which belongs to one step.
        sets, ahead = freeze_sets(self.net, self.model.policy), self.team.size == 1
        self.freezing = Freezing(self.optimizer, sets, self.step_of, ahead=ahead)
        self.freezing.at(self.loader.epoch)
        mean = subtracted(self.data.validation, self.backend)
        self.measure = measurement(self.net, self.model.crop, self.backend, mean)

    def step_of(self, rule: sg.optim.Optimizer) -> Step:
        """Compile a step of all workers with an update rule."""
        chosen, team = self.chosen, self.team
        return team_step(
            team, self.net, rule, self.model.crop,
            average=chosen.average, every=chosen.average_every, backend=self.backend,
            transport=transport_of(chosen, team), mean=subtracted(self.data.train, self.backend),
        )  # fmt: skip

    def check_data(self, resumed: Checkpoint) -> None:
        """Raise `CheckpointError` unless classes and mean image are the same."""
        same = np.array_equal(resumed.tensors[saved.MEAN], self.data.train.mean_image)
        if resumed.meta["classes"] != self.classes or not same:
            what = "mean image" if resumed.meta["classes"] == self.classes else "classes"
            raise CheckpointError(
                f"{resumed.path} was trained on other images than {self.chosen.data} has: "
                f"the {what} differ.",
                fix=f"resume with --data {saved.setting(resumed, 'data')}, or start a new run",
            )

    def document(self) -> dict[str, Any]:
        """Give the names of the classes."""
        return {"classes": self.classes}

    def tensors(self) -> dict[str, Any]:
        """Give the mean image."""
        return {saved.MEAN: np.asarray(self.data.train.mean_image, np.float32)}

    def take(self, batch: Batch, *, settle: bool) -> Result:
        """Take a step on this worker's images."""
        step = self.freezing.at(batch.epoch)
        return step(*batch.inputs, row=batch.row, settle=settle)

    def measured(self, interrupted: Interrupted) -> Score | None:
        """Measure the quality on the validation images, each worker on its own."""
        tally = Tally()
        chosen, crop = self.chosen, self.model.crop
        with validation_loader(self.data, chosen.batch, crop, self.team, self.backend) as loader:
            while loader.epoch == 0:
                wait_for_batch(loader, interrupted)
                if interrupted:
                    break
                tally.add(self.measure, loader.next_batch())
        return None if self._stopping(interrupted) else tally.gathered(self.team).score()

    def close(self) -> None:
        """Give the memory of the steps back."""
        self.freezing.close()

    def pictures(self) -> None:
        """Draw the curves, and the filters of the first layer."""
        super().pictures()
        filters = self.model.first_layer(self.net)
        plot_filters(filters.eval(), self.folder / "filters.png", title="first layer")


def command(
    model: Classifier,
    chosen: argparse.Namespace,
    settle: Callable[[argparse.Namespace], None] | None = None,
) -> int:
    """Run what the command line says: train, evaluate or predict; give the exit status.

    `settle` chooses what suits the images, where it was not given, before training.
    """
    check_device(chosen.device)
    if chosen.command == "train" and settle is not None:
        settle(chosen)
    run = {"train": train, "evaluate": evaluate, "predict": predict}[chosen.command]
    return run(model, chosen)


def train(model: Classifier, chosen: argparse.Namespace) -> int:
    """Train a model as the command line says, on as many workers; give the exit status."""
    choose_ranks(model, chosen)
    team = team_of(chosen)
    if team is None:
        return supervise(model.name, chosen)
    status = Training(model, chosen, team).run()
    team.close()  # after an error nobody does, which is how the others learn of it
    return status
