"""A program that workers run in the tests: tasks by name, whose results rank 0 writes to a file.

python program.py TASK OPTIONS(JSON) RESULT.npz
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import symgraph as sg
from symgraph.data import Augment, Loader
from symgraph.nn import Conv2d, Dense, Dropout, Flatten, MaxPool2d, Module
from symgraph.parallel import Alone, Team, join, train_step

Results = dict[str, Any]
CROP = 8


class Images:
    """Noisy images that are what the number of the image says."""

    def __init__(self, count: int = 30, size: int = 10) -> None:
        random = np.random.default_rng(2)
        self.images = random.integers(0, 256, (count, 3, size, size), dtype=np.uint8)
        self.mean_image = np.full((3, size, size), 128, np.float32)
        self.classes, self.image_size = ["a", "b", "c"], size

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Any) -> tuple[np.ndarray, np.ndarray]:
        return self.images[indices], np.asarray(indices, dtype=np.int32) % 3


class Small(Module):
    """A convolution, dropout and a dense layer, in float64."""

    def __init__(self) -> None:
        self.conv, self.pool = Conv2d(3, 4, 3), MaxPool2d(2)
        self.drop, self.flat, self.last = Dropout(0.4), Flatten(), Dense(4 * 9, 3)

    def forward(self, x: Any, *, train: bool = False) -> Any:
        hidden = self.pool(sg.relu(self.conv(x / 128.0)))
        return self.last(self.drop(self.flat(hidden), train=train))


def exact(team: Team, options: Any) -> Results:
    """Train the small net with dropout, crops and mirrors on, for each configuration."""
    results: Results = {}
    for number, chosen in enumerate(options["configurations"]):
        results.update(_exact(team, number, **chosen))
    return results


def _exact(
    team: Team, number: int, *, average: str, momentum: float, steps: int, batch: int
) -> Results:
    sg.seed(7)
    with sg.config(float_dtype="float64"):
        net = Small()
        x = sg.tensor("x", (sg.dim("B"), 3, CROP, CROP))
        y = sg.tensor("y", (x.shape[0],), "int32")
        loss = sg.nn.cross_entropy(net(x, train=True), y).mean()
        groups = [
            sg.optim.Group(net.parameters("weight"), decay=5e-3),
            sg.optim.Group(net.parameters("bias"), rate=2.0, decay=0.0),
        ]
        optimizer = sg.optim.SGD(groups, 0.05, momentum=momentum)
        step = train_step(team, [x, y], loss, optimizer, average=average)
    losses = []
    options: Any = {"augment": Augment(CROP, seed=3), "rank": team.rank, "ranks": team.size}
    with Loader(Images(), batch, seed=5, workers=0, **options) as loader:
        for _ in range(steps):
            one = loader.next_batch()
            losses.append(step(one.images.astype(np.float64), one.labels, row=one.row).loss)
    found = {f"{number}.loss": np.array(losses)}
    named = {**net.named_state(), **optimizer.state(net.named_state())}
    for name, variable in named.items():
        found[f"{number}.{name}"] = variable.value
    step.close()
    return found


def linear(team: Team, options: Any) -> Results:
    """Fit a line with an average of weights and momenta every so many steps."""
    rows, every = options["rows"], options["every"]
    w = sg.shared(np.array([1.0, -2.0, 0.5]), "w")
    x, y = sg.tensor("x", (sg.dim("B"), 3), "float64"), sg.tensor("y", (sg.dim("B"),), "float64")
    loss = ((x @ w - y) ** 2).mean()
    optimizer = sg.optim.SGD([w], 0.05, momentum=0.9)
    step = train_step(team, [x, y], loss, optimizer, average="params", every=every)
    random = np.random.default_rng(1)
    weights, settled = [], []
    starts = np.cumsum([0, *rows])
    for _ in range(options["steps"]):
        xs, ys = random.normal(size=(starts[-1], 3)), random.normal(size=starts[-1])
        part = slice(starts[team.rank], starts[team.rank + 1])
        settled.append(step(xs[part], ys[part], row=int(starts[team.rank])).settled)
        weights.append(w.value)
    return {"w": np.array(weights), "settled": np.array(settled)}


def draws(team: Team, options: Any) -> Results:
    """Tell which rows of a dropout mask each rank drew, in several steps."""
    sg.seed(11)
    w = sg.shared(np.ones(5, np.float32), "w")
    x = sg.tensor("x", (sg.dim("B"), 5))
    dropped = sg.nn.Dropout(0.5)(x, train=True)
    loss = (dropped * w).sum(axis=1).mean()
    step = train_step(team, [x], loss, sg.optim.SGD([w], 0.0), average="params")
    rows = options["rows"]
    first, last = rows * team.rank // team.size, rows * (team.rank + 1) // team.size
    losses = [step(np.eye(rows, 5, dtype=np.float32)[first:last], row=first).loss for _ in range(4)]
    return {"loss": np.array(losses)}


def alexnet(team: Team, options: Any) -> Results:
    """Take one step of AlexNet from each of the first states of a run, on all ranks and on one.

    Gives the largest ratio of norms between the two, of each state, over all weights and momenta.
    """
    from models.alexnet import AlexNet, optimizer

    rows, states = options["rows"], options["states"]
    random = np.random.default_rng(3)
    made = []
    for who in (team, Alone()) if team.rank == 0 else (team,):
        sg.seed(1)
        net = AlexNet(10)
        rule = optimizer(net, 0.01)
        x = sg.tensor("x", (sg.dim("B"), 3, 227, 227))
        y = sg.tensor("y", (x.shape[0],), "int32")
        loss = sg.nn.cross_entropy(net(x, train=True), y).mean()
        step = train_step(who, [x, y], loss, rule, average=options["average"])
        state = net.named_state()
        made.append((step, {**state, **rule.state(state)}))
    errors = []
    for number in range(states):
        images = random.normal(0, 50, (rows, 3, 227, 227)).astype(np.float32)
        labels = random.integers(0, 10, rows, dtype=np.int32)
        steps: Any = {"seed": 5, "step": number, "offset": 0}
        if number and team.rank == 0:
            for ours, theirs in zip(made[0][1].values(), made[1][1].values()):
                ours.value = theirs.value
        made[0][0].start()
        sg.random.default_stream().set_state(steps)
        first, last = rows * team.rank // team.size, rows * (team.rank + 1) // team.size
        made[0][0](images[first:last], labels[first:last], row=first)
        if team.rank == 0:
            sg.random.default_stream().set_state(steps)
            made[1][0](images, labels)
            errors.append(
                max(
                    np.linalg.norm(ours.value - theirs.value) / np.linalg.norm(theirs.value)
                    for ours, theirs in zip(made[0][1].values(), made[1][1].values())
                )
            )
        team.gather()
    answer = np.array(errors, np.float64)
    return {"errors": np.frombuffer(team.gather(answer.tobytes())[0])}


TASKS = {"alexnet": alexnet, "exact": exact, "linear": linear, "draws": draws}


def main(task: str, options: str, target: str) -> None:
    """Run a task; all ranks must end with the same bits."""
    team = join()
    results = TASKS[task](team, json.loads(options))
    if task != "linear":  # which looks between two averages too
        digest = hashlib.sha256(b"".join(results[k].tobytes() for k in sorted(results))).digest()
        others = team.gather(digest)
        if others != [digest] * team.size:
            raise SystemExit("ranks ended with different numbers")
    if team.rank == 0:
        np.savez(target, **results)
    team.gather()


if __name__ == "__main__":
    main(*sys.argv[1:])
