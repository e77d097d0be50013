"""The training loop of all models: progress, metrics, checkpoints, Ctrl-C, exact resume."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import symgraph as sg
from models.common import saved
from models.common.interrupt import Interrupted, hold_interrupts, wait_for_batch
from models.common.memory import keep_memory
from models.common.metrics import Log, MetricsLog, NoLog
from models.common.pictures import check_pictures, plot_curves
from models.common.progress import Progress, show_progress
from models.common.runs import find_checkpoint, new_run_folder
from models.common.workers import backend_of
from symgraph.errors import ArgumentError, CheckpointError, SymgraphError
from symgraph.io import Checkpoint, remove_stale_partials
from symgraph.parallel import Team
from symgraph.parallel.step import Result


class Stopped(Exception):  # noqa: N818 - it is no error
    """The user asked the run to stop between two batches."""


class Measured(Protocol):
    """What a validation gives."""

    @property
    def top1(self) -> float:
        """The share that was right."""

    @property
    def loss(self) -> float:
        """The mean loss."""

    def text(self) -> str:
        """Say it in one line."""

    def record(self) -> dict[str, float]:
        """Give what stands in a line of the metrics."""


class Run(ABC):
    """One run: everything that a checkpoint holds, and how to go on from it.

    Every worker of a team has one; rank 0 alone writes, and shows what happens. A subclass says
    what is trained on what: `prepare` makes `net`, `optimizer`, `schedule` and `loader`, and
    `compile` the functions.
    """

    TASK: ClassVar[saved.Task]
    THINGS: ClassVar[str] = "images"  # what is counted in a second

    net: sg.nn.Module
    optimizer: sg.optim.Optimizer
    schedule: sg.optim.Schedule
    loader: Any  # gives batches, and has a cursor: `symgraph.data.Loader` or `Epochs`

    def __init__(self, model: Any, chosen: argparse.Namespace, team: Team) -> None:
        if team.rank == 0:
            check_pictures()
        keep_memory()
        resumed = None
        if chosen.resume is not None:
            resumed = saved.load(_checkpoint_of(chosen, model.name), model.name, self.TASK)
            _keep_settings(chosen, resumed, model.kinds)
        sg.seed(chosen.seed)
        self.model = model.with_settings(vars(chosen))
        self.chosen, self.team, self.first = chosen, team, team.rank == 0
        self.backend = backend_of(chosen, team)  # None is the CPU as the settings have it
        self.prepare()
        self.step = 0
        self.unvalidated = False  # the measurement that belongs to this step is still to come
        self.last: Measured | None = None
        self.path: Path | None = None  # the last checkpoint
        self.changed = True  # since that checkpoint
        if resumed is not None:
            self._restore(resumed)
        self.compile()
        steps = chosen.epochs * len(self.loader)
        self.total = min(steps, chosen.max_steps) if chosen.max_steps else steps
        self._agree()
        self.folder = Path()  # where rank 0 writes
        if self.first:
            self.folder = (
                new_run_folder(model.name, chosen.out) if resumed is None else resumed.path.parent
            )

    # -- what a subclass gives ---------------------------------------------------------------------

    @abstractmethod
    def prepare(self) -> None:
        """Open the data, and make the network, its update rule, the schedule and the loader."""

    @abstractmethod
    def compile(self) -> None:
        """Compile the step and the measurement for `backend`."""

    @abstractmethod
    def check_data(self, resumed: Checkpoint) -> None:
        """Raise `CheckpointError` unless the run to be resumed was trained on the same data."""

    @abstractmethod
    def take(self, batch: Any, *, settle: bool) -> Result:
        """Take a training step."""

    @abstractmethod
    def measured(self, interrupted: Interrupted) -> Measured | None:
        """Measure the quality on validation data; None where all workers stop instead."""

    @abstractmethod
    def document(self) -> dict[str, Any]:
        """Give what a checkpoint says about the data."""

    def tensors(self) -> dict[str, Any]:
        """Give arrays that a checkpoint holds beside variables."""
        return {}

    def more(self) -> dict[str, Any]:
        """Give variables that a checkpoint holds beside those of network and optimiser."""
        return {}

    def collect(self) -> None:  # noqa: B027 - not every run divides what a checkpoint holds
        """Bring together what workers have for a checkpoint; all call it at the same moment."""

    def close(self) -> None:  # noqa: B027 - not every run holds more than its arrays
        """Give memory back after the run."""

    def pictures(self) -> None:
        """Draw what the run folder shows."""
        if self.step:
            curves = self.folder / "curves.png"
            plot_curves(self.folder / "metrics.jsonl", curves, title=self.model.name)

    # -- checkpoints -------------------------------------------------------------------------------

    def _restore(self, resumed: Checkpoint) -> None:
        meta: dict[str, Any] = resumed.meta
        self.check_data(resumed)
        self.loader.set_state(meta["data_cursor"])
        self.schedule.set_state(meta.get("schedule", {}))
        saved.restore(resumed, self.model.name, self.net, self.optimizer, self.more())
        self.step = int(meta["step"])
        self.unvalidated = bool(meta.get("unvalidated", False))
        self.path, self.changed = resumed.path, False

    def _agree(self) -> None:
        """Compare where all workers start: on several machines one may see an older checkpoint.

        Raises `CheckpointError` where they differ.
        """
        place = json.dumps([self.step, self.loader.state(), self.unvalidated], sort_keys=True)
        places = [one.decode() for one in self.team.gather(place.encode())]
        if set(places) != {place}:
            raise CheckpointError(
                "workers go on from different checkpoints: " + "; ".join(sorted(set(places))) + ".",
                fix="--resume with the path of one file that all machines see",
            )

    def save(self) -> Path | None:
        """Write a checkpoint of this moment, unless there is one, and give its path.

        All workers call it at the same moment; only rank 0 has a path.
        """
        if not self.changed:
            return self.path
        self.collect()
        if self.first:
            self.path = saved.save(
                self.folder,
                self.TASK,
                variables=saved.variables(self.net, self.optimizer, self.more()),
                tensors=self.tensors(),
                meta={
                    "model": self.model.name,
                    **self.document(),
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

    # -- the loop ----------------------------------------------------------------------------------

    def run(self) -> int:
        """Train to the end, or to Ctrl-C; give the exit status."""
        start = self.step
        if self.first:
            # What a killed run was writing goes even where this one has nothing left to save.
            remove_stale_partials(self.folder)
        # Before the first line of metrics: whatever ends this run, it can be resumed.
        self.save()
        log = self._log(start) if self.first else NoLog()
        quiet = self.chosen.quiet or not self.first
        progress = show_progress(
            total=self.total, epochs=self.chosen.epochs, first=start, quiet=quiet,
            things=self.THINGS,
        )  # fmt: skip
        interrupts = hold_interrupts() if self.first else hold_interrupts("")
        with self.loader, log, interrupts as interrupted, progress:
            self.waited = time.perf_counter(), self.loader.wait_seconds
            with contextlib.suppress(Stopped):
                self._epochs(log, progress, interrupted)
            path = self.save()
        if self.first and path is not None:
            self.pictures()
            self._tell(start, path, interrupted)
        self.close()
        return interrupted.exit_code

    def _log(self, start: int) -> MetricsLog:
        return MetricsLog(
            self.folder / "metrics.jsonl",
            resume_step=start if self.chosen.resume else None,
            again=("validation",) if self.unvalidated else (),
        )

    def _tell(self, start: int, path: Path, interrupted: Interrupted) -> None:
        if self.last is not None:
            print(self.last.text())
        print(f"checkpoint {path}")
        if interrupted:
            print(f"stopped at step {self.step}; go on with --resume {path.parent}")
        elif self.step == start and self.last is None:
            print(f"nothing to do at step {start} of {self.total}: give more --epochs")

    def _epochs(self, log: Log, progress: Progress, interrupted: Interrupted) -> None:
        if self.unvalidated:
            self._validate(log, progress, interrupted)
        due = False  # a checkpoint, as soon as all workers have the same numbers
        settled = True
        while self.step < self.total:
            self.optimizer.lr.value = float(self.schedule(self.loader.epoch))
            while not self.unvalidated:
                batch = self._batch(interrupted) if settled else self.loader.next_batch()
                settled = self._one(batch, log, progress)
                self.unvalidated = self._epoch_ended or self.step >= self.total
                due = due or self.step % self.chosen.checkpoint_every == 0
                if settled and due:
                    self.save()
                    due = False
            self._validate(log, progress, interrupted)

    def _batch(self, interrupted: Interrupted) -> Any:
        """Give the next batch, unless one of all workers was interrupted, if only while it waited.

        All of them are between the same two steps until all have a batch.
        """
        wait_for_batch(self.loader, interrupted)
        if self._stopping(interrupted):
            raise Stopped
        return self.loader.next_batch()

    def _stopping(self, interrupted: Interrupted) -> bool:
        """Ask all workers whether one was interrupted: all stop at the same step."""
        signals = [one[0] for one in self.team.gather(bytes([interrupted.signal or 0]))]
        heard = next((signals[rank] for rank in range(self.team.size) if signals[rank]), 0)
        if heard:
            interrupted.hear(heard)
        return bool(heard)

    def _one(self, batch: Any, log: Log, progress: Progress) -> bool:
        """Take a step; tell whether all workers have the same numbers after it."""
        before = time.perf_counter()
        last = self._epoch_ended or self.step + 1 >= self.total
        done = self.take(batch, settle=last)
        seconds, loss = time.perf_counter() - before, done.loss
        self.step, self.changed = self.step + 1, True
        self.team.report(f"step {self.step}")
        rate = float(self.optimizer.lr.value)
        speed = {f"{self.THINGS}_per_second": round(done.rows / seconds, 2)}
        log.write(
            "train", step=self.step, epoch=batch.epoch, loss=loss, learning_rate=rate, **speed
        )
        if not math.isfinite(loss):
            # Saving now would push good checkpoints out with numbers that lead nowhere.
            raise SymgraphError(
                f"the loss of step {self.step} is {loss}: training diverged.",
                details=[f"last checkpoint : {self.path}"],
                fix="start again with a smaller --learning-rate",
            )
        progress.step(self.step, epoch=batch.epoch, images=done.rows, loss=loss, learning_rate=rate)
        return done.settled

    @property
    def _epoch_ended(self) -> bool:
        """Whether the last batch that the loader gave was the last of its epoch."""
        return bool(self.loader.state()["position"] == 0)

    def _validate(self, log: Log, progress: Progress, interrupted: Interrupted) -> None:
        if self._stopping(interrupted):
            raise Stopped
        self.team.report(f"validation after step {self.step}")
        found = self.measured(interrupted)
        if found is None:
            raise Stopped
        self.last = found
        self.unvalidated, self.changed = False, True
        if self._epoch_ended:
            self.schedule.report(found.top1)
        epoch = self.loader.epoch - self._epoch_ended
        log.write("validation", step=self.step, epoch=epoch, **found.record())
        progress.epoch_end(
            validation_accuracy=found.top1, validation_loss=found.loss,
            **{f"waiting_for_{self.THINGS}": self._waiting()},
        )  # fmt: skip
        if self.first:
            self.pictures()

    def _waiting(self) -> float:
        """Give the share of the time since the last call in which the trainer waited for data."""
        now, waited = time.perf_counter(), self.loader.wait_seconds
        share = (waited - self.waited[1]) / max(now - self.waited[0], 1e-9)
        self.waited = now, waited
        return float(share)


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
