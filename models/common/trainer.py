"""The training loop of the image classifiers: progress, metrics, checkpoints, exact resume."""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path
from typing import Any

import symgraph as sg
from models.common import saved
from models.common.classifier import (
    Classifier,
    Data,
    Score,
    measurement,
    open_data,
    score,
    train_step,
    validation_loader,
)
from models.common.interrupt import Interrupted, hold_interrupts
from models.common.metrics import MetricsLog
from models.common.pictures import plot_curves, plot_filters
from models.common.progress import Progress, show_progress
from models.common.runs import find_checkpoint, new_run_folder
from symgraph.data import Augment, Batch, Loader
from symgraph.errors import CheckpointError


class Stopped(Exception):  # noqa: N818 - it is no error
    """The user asked the run to stop between two batches."""


class Training:
    """One run: everything that a checkpoint holds, and how to go on from it."""

    def __init__(self, model: Classifier, chosen: argparse.Namespace) -> None:
        resumed = None
        if chosen.resume is not None:
            path = find_checkpoint(chosen.resume, model.name, chosen.out)
            resumed = saved.load(path, model.name)
            chosen.seed = int(resumed.meta["seed"])
        sg.seed(chosen.seed)
        self.model, self.chosen = model, chosen
        self.data: Data = open_data(chosen.data)
        self.classes = list(self.data.train.classes)
        self.net = model.build(len(self.classes))
        self.optimizer = model.optimizer(self.net, chosen.learning_rate)
        self.schedule = model.schedule(chosen.learning_rate)
        augment = Augment(model.crop, seed=chosen.seed, mirror=self.data.mirror)
        self.loader = Loader(self.data.train, chosen.batch, seed=chosen.seed, augment=augment)
        self.step = 0
        self.unvalidated = False  # an epoch ended and was not measured yet
        self.last: Score | None = None
        if resumed is None:
            self.folder = new_run_folder(model.name, chosen.out)
        else:
            self.folder = resumed.path.parent
            self._restore(resumed)
        self.train = train_step(self.net, self.optimizer, model.crop)
        self.measure = measurement(self.net, model.crop)
        steps = chosen.epochs * len(self.loader)
        self.total = min(steps, chosen.max_steps) if chosen.max_steps else steps

    def _restore(self, resumed: Any) -> None:
        meta = resumed.meta
        if meta["classes"] != self.classes:
            raise CheckpointError(
                f"{resumed.path} was trained on other classes than {self.chosen.data} has.",
                fix="resume with the same --data",
            )
        if meta["loader"].get("batch", self.chosen.batch) != self.chosen.batch:
            raise CheckpointError(
                f"{resumed.path} was written with --batch {meta['loader'].get('batch')}, "
                f"this run has {self.chosen.batch}.",
                fix=f"resume with --batch {meta['loader'].get('batch')}",
            )
        saved.restore(resumed, self.model.name, self.net, self.optimizer)
        self.loader.set_state({k: v for k, v in meta["loader"].items() if k != "batch"})
        self.schedule.set_state(meta.get("schedule", {}))
        self.step = int(meta["step"])
        self.unvalidated = bool(meta.get("unvalidated", False))

    def save(self) -> Path:
        """Write a checkpoint of this moment."""
        return saved.save(
            self.folder,
            net=self.net,
            optimizer=self.optimizer,
            mean_image=self.data.train.mean_image,
            meta={
                "model": self.model.name,
                "classes": self.classes,
                "seed": self.chosen.seed,
                "step": self.step,
                "epoch": self.loader.epoch,
                "loader": {**self.loader.state(), "batch": self.chosen.batch},
                "schedule": self.schedule.state(),
                "unvalidated": self.unvalidated,
                "data": self.chosen.data,
            },
        )

    def run(self) -> int:
        """Train to the end, or to Ctrl-C; give the exit status."""
        first = self.step
        log = MetricsLog(
            self.folder / "metrics.jsonl", resume_step=first if self.chosen.resume else None
        )
        progress = show_progress(
            total=self.total, epochs=self.chosen.epochs, first=first, quiet=self.chosen.quiet
        )
        with self.loader, log, hold_interrupts() as interrupted, progress:
            with contextlib.suppress(Stopped):
                self._epochs(log, progress, interrupted)
            path = self.save()
        self._pictures()
        if self.last is not None:
            print(self.last.text())
        print(f"checkpoint {path}")
        if interrupted:
            print(f"stopped at step {self.step}; go on with --resume {path.parent}")
        return interrupted.exit_code

    def _epochs(self, log: MetricsLog, progress: Progress, interrupted: Interrupted) -> None:
        if self.unvalidated:
            self._validate(log, progress, interrupted)
        while self.step < self.total:
            epoch = self.loader.epoch
            self.optimizer.lr.value = float(self.schedule(epoch))
            for batch in self.loader:
                self._one(batch, log, progress)
                if interrupted:
                    self.unvalidated = self.loader.epoch != epoch
                    raise Stopped
                if self.step >= self.total:
                    break
                if self.step % self.chosen.checkpoint_every == 0:
                    self.unvalidated = self.loader.epoch != epoch
                    self.save()
            if self.loader.epoch != epoch or self.step >= self.total:
                self.unvalidated = True
                self._validate(log, progress, interrupted)

    def _one(self, batch: Batch, log: MetricsLog, progress: Progress) -> None:
        before = time.perf_counter()
        loss = float(self.train(batch.images, batch.labels))
        seconds = time.perf_counter() - before
        self.step += 1
        rate = float(self.optimizer.lr.value)
        log.write(
            "train", step=self.step, epoch=batch.epoch, loss=loss, learning_rate=rate,
            images_per_second=round(len(batch) / seconds, 2),
        )  # fmt: skip
        progress.step(
            self.step, epoch=batch.epoch, images=len(batch), loss=loss, learning_rate=rate
        )

    def _validate(self, log: MetricsLog, progress: Progress, interrupted: Interrupted) -> None:
        def batches(loader: Loader) -> Any:
            for batch in loader:
                if interrupted:
                    raise Stopped
                yield batch

        with validation_loader(self.data, self.chosen.batch, self.model.crop) as loader:
            self.last = score(self.measure, batches(loader))
        self.unvalidated = False
        if isinstance(self.schedule, sg.optim.Plateau):
            self.schedule.report(self.last.top1)
        log.write(
            "validation", step=self.step, epoch=progress.epoch, accuracy=self.last.top1,
            top5=self.last.top5, loss=self.last.loss,
        )  # fmt: skip
        progress.epoch_end(
            validation_accuracy=self.last.top1, validation_loss=self.last.loss
        )
        self._pictures()

    def _pictures(self) -> None:
        if self.step:
            plot_curves(
                self.folder / "metrics.jsonl", self.folder / "curves.png", title=self.model.name
            )
        filters = self.model.first_layer(self.net)
        plot_filters(filters.eval(), self.folder / "filters.png", title="first layer")


def train(model: Classifier, chosen: argparse.Namespace) -> int:
    """Train a model as the command line says; give the exit status."""
    return Training(model, chosen).run()
