"""The training loop of the image classifiers: progress, metrics, checkpoints, exact resume."""

from __future__ import annotations

import argparse
import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

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
from models.common.memory import keep_memory
from models.common.metrics import MetricsLog
from models.common.pictures import check_pictures, plot_curves, plot_filters
from models.common.progress import Progress, show_progress
from models.common.runs import find_checkpoint, new_run_folder
from symgraph.data import Augment, Batch, Loader
from symgraph.errors import ArgumentError, CheckpointError, SymgraphError
from symgraph.io import Checkpoint, remove_stale_partials


class Stopped(Exception):  # noqa: N818 - it is no error
    """The user asked the run to stop between two batches."""


class Training:
    """One run: everything that a checkpoint holds, and how to go on from it."""

    def __init__(self, model: Classifier, chosen: argparse.Namespace) -> None:
        check_pictures()
        keep_memory()
        resumed = None
        if chosen.resume is not None:
            resumed = saved.load(_checkpoint_of(chosen, model.name), model.name)
            _keep_settings(chosen, resumed, model.kinds)
        sg.seed(chosen.seed)
        model = model.with_settings(vars(chosen))
        self.model, self.chosen = model, chosen
        self.data: Data = open_data(chosen.data, model.size)
        self.classes = list(self.data.train.classes)
        self.net = model.build(len(self.classes))
        self.optimizer = model.optimizer(self.net, chosen.learning_rate)
        self.schedule = model.schedule(chosen.learning_rate)
        augment = Augment(model.crop, seed=chosen.seed, mirror=self.data.mirror)
        self.loader = Loader(self.data.train, chosen.batch, seed=chosen.seed, augment=augment)
        self.step = 0
        self.unvalidated = False  # the measurement that belongs to this step is still to come
        self.last: Score | None = None
        self.path: Path | None = None  # the last checkpoint
        self.changed = True  # since that checkpoint
        if resumed is not None:
            self._restore(resumed)
        self.train = train_step(self.net, self.optimizer, model.crop)
        self.measure = measurement(self.net, model.crop)
        steps = chosen.epochs * len(self.loader)
        self.total = min(steps, chosen.max_steps) if chosen.max_steps else steps
        self.folder = (
            new_run_folder(model.name, chosen.out) if resumed is None else resumed.path.parent
        )

    def _restore(self, resumed: Checkpoint) -> None:
        meta: dict[str, Any] = resumed.meta
        same = np.array_equal(resumed.tensors[saved.MEAN], self.data.train.mean_image)
        if meta["classes"] != self.classes or not same:
            raise CheckpointError(
                f"{resumed.path} was trained on other images than {self.chosen.data} has: "
                f"the {'mean image' if meta['classes'] == self.classes else 'classes'} differ.",
                fix=f"resume with --data {saved.setting(resumed, 'data')}, or start a new run",
            )
        self.loader.set_state(meta["data_cursor"])
        self.schedule.set_state(meta.get("schedule", {}))
        saved.restore(resumed, self.model.name, self.net, self.optimizer)
        self.step = int(meta["step"])
        self.unvalidated = bool(meta.get("unvalidated", False))
        self.path, self.changed = resumed.path, False

    def save(self) -> Path:
        """Write a checkpoint of this moment, unless there is one, and give its path."""
        if self.path is None or self.changed:
            self.path = saved.save(
                self.folder,
                net=self.net,
                optimizer=self.optimizer,
                mean_image=self.data.train.mean_image,
                meta={
                    "model": self.model.name,
                    "classes": self.classes,
                    "settings": {
                        name: kind(getattr(self.chosen, name))
                        for name, kind in self.model.kinds.items()
                    },
                    "step": self.step,
                    "epoch": self.loader.epoch,
                    "data_cursor": self.loader.state(),
                    "schedule": self.schedule.state(),
                    "unvalidated": self.unvalidated,
                },
            )
            self.changed = False
        return self.path

    def run(self) -> int:
        """Train to the end, or to Ctrl-C; give the exit status."""
        first = self.step
        # What a killed run was writing goes even where this one has nothing left to save.
        remove_stale_partials(self.folder)
        # Before the first line of metrics: whatever ends this run, it can be resumed.
        self.save()
        log = MetricsLog(
            self.folder / "metrics.jsonl",
            resume_step=first if self.chosen.resume else None,
            again=("validation",) if self.unvalidated else (),
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
        elif self.step == first and self.last is None:
            print(f"nothing to do at step {first} of {self.total}: give more --epochs")
        return interrupted.exit_code

    def _epochs(self, log: MetricsLog, progress: Progress, interrupted: Interrupted) -> None:
        if self.unvalidated:
            self._validate(log, progress, interrupted)
        while self.step < self.total:
            epoch = self.loader.epoch
            self.optimizer.lr.value = float(self.schedule(epoch))
            for batch in self.loader:
                self._one(batch, log, progress)
                self.unvalidated = self._epoch_ended or self.step >= self.total
                if interrupted:
                    raise Stopped
                if self.step % self.chosen.checkpoint_every == 0:
                    self.save()
                if self.unvalidated:
                    self._validate(log, progress, interrupted)
                    break

    def _one(self, batch: Batch, log: MetricsLog, progress: Progress) -> None:
        before = time.perf_counter()
        loss = float(self.train(batch.images, batch.labels))
        seconds = time.perf_counter() - before
        self.step, self.changed = self.step + 1, True
        rate = float(self.optimizer.lr.value)
        log.write(
            "train", step=self.step, epoch=batch.epoch, loss=loss, learning_rate=rate,
            images_per_second=round(len(batch) / seconds, 2),
        )  # fmt: skip
        if not math.isfinite(loss):
            # Saving now would push good checkpoints out with numbers that lead nowhere.
            raise SymgraphError(
                f"the loss of step {self.step} is {loss}: training diverged.",
                details=[f"last checkpoint : {self.path}"],
                fix="start again with a smaller --learning-rate",
            )
        progress.step(
            self.step, epoch=batch.epoch, images=len(batch), loss=loss, learning_rate=rate
        )

    @property
    def _epoch_ended(self) -> bool:
        """Whether the last batch was the last of its epoch."""
        return self.step > 0 and self.loader.state()["position"] == 0

    def _validate(self, log: MetricsLog, progress: Progress, interrupted: Interrupted) -> None:
        def until_stopped(loader: Loader) -> Iterator[Batch]:
            for batch in loader:
                if interrupted:
                    raise Stopped
                yield batch

        with validation_loader(self.data, self.chosen.batch, self.model.crop) as loader:
            self.last = score(self.measure, until_stopped(loader))
        self.unvalidated, self.changed = False, True
        if self._epoch_ended:
            self.schedule.report(self.last.top1)
        log.write(
            "validation", step=self.step, epoch=self.loader.epoch - self._epoch_ended,
            accuracy=self.last.top1, top5=self.last.top5, loss=self.last.loss,
        )  # fmt: skip
        progress.epoch_end(validation_accuracy=self.last.top1, validation_loss=self.last.loss)
        self._pictures()

    def _pictures(self) -> None:
        if self.step:
            curves = self.folder / "curves.png"
            plot_curves(self.folder / "metrics.jsonl", curves, title=self.model.name)
        filters = self.model.first_layer(self.net)
        plot_filters(filters.eval(), self.folder / "filters.png", title="first layer")


def _checkpoint_of(chosen: argparse.Namespace, model: str) -> Path:
    """Find the checkpoint to resume from; a run goes on in the folder where it began."""
    path = find_checkpoint(chosen.resume, model, chosen.out)
    if chosen.out is not None and Path(chosen.out).resolve() != path.resolve().parent:
        raise ArgumentError(
            f"--out {chosen.out}: a resumed run goes on in its own folder, {path.parent}.",
            fix="leave --out out",
        )
    return path


def _keep_settings(
    chosen: argparse.Namespace, resumed: Checkpoint, kinds: Mapping[str, type]
) -> None:
    """Take the settings of the run that goes on; only data and length may be given anew."""
    for name, kind in kinds.items():
        before = saved.setting(resumed, name, kind)
        if name not in chosen.given:
            setattr(chosen, name, before)
        elif name not in ("data", "epochs") and getattr(chosen, name) != before:
            flag = "--" + name.replace("_", "-")
            raise CheckpointError(
                f"{resumed.path} was written with {flag} {before}, "
                f"not {getattr(chosen, name)}: it would not be the same run.",
                fix=f"leave {flag} out, or start a new run",
            )


def train(model: Classifier, chosen: argparse.Namespace) -> int:
    """Train a model as the command line says; give the exit status."""
    return Training(model, chosen).run()
