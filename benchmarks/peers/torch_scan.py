"""PyTorch's LSTM: its own, eagerly, and as a loop of cells that is compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from harness import Contestant

from peers import load

torch = load("torch")

Array = np.ndarray[Any, Any]


def loss_of(outputs: Any) -> Any:
    """Half the sum of squares, a mean over the batch."""
    return (outputs * outputs).sum() / (2 * outputs.shape[1])


class Own:
    """`torch.nn.LSTM` with given weights; its second bias is zero and stays."""

    def __init__(self, lstm: Any, dtype: Any) -> None:
        inputs, hidden = lstm.inputs.shape[0], lstm.hidden.shape[0]
        self.net = torch.nn.LSTM(inputs, hidden, dtype=dtype)
        self.trained = [self.net.weight_ih_l0, self.net.weight_hh_l0, self.net.bias_ih_l0]
        with torch.no_grad():
            for own, given in zip(self.trained, lstm.weights, strict=True):
                own.copy_(torch.from_numpy(given.T.copy()))
            self.net.bias_hh_l0.zero_().requires_grad_(False)
        self.rows = torch.from_numpy(lstm.rows).to(dtype)

    def outputs(self) -> Any:
        """All outputs."""
        return self.net(self.rows)[0]


def cell(row: Any, h: Any, c: Any, wh: Any) -> tuple[Any, Any]:
    """One step, of a row that was multiplied already."""
    i, f, g, o = (row + h @ wh.T).chunk(4, 1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


class Cells(Own):
    """The same as a loop over a cell that is compiled."""

    def __init__(self, lstm: Any, dtype: Any) -> None:
        super().__init__(lstm, dtype)
        self.cell = torch.compile(cell)

    def outputs(self) -> Any:
        """All outputs."""
        wx, wh, bias = self.trained
        h = c = self.rows.new_zeros((self.rows.shape[1], wh.shape[1]))
        found = []
        for row in (self.rows @ wx.T + bias).unbind(0):
            h, c = self.cell(row, h, c, wh)
            found.append(h)
        return torch.stack(found)


def step_of(own: Own, lr: float, forward: Callable[[], Any]) -> Callable[[], None]:
    """Give a training step."""
    optimizer = torch.optim.SGD(own.trained, lr, foreach=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss_of(forward()).backward()
        optimizer.step()

    return step


def checked(name: str, own: Own, lstm: Any, step: Callable[[], None]) -> Contestant:
    """Make a contestant, whose weights are the first ones again after its check."""
    first = [one.detach().clone() for one in own.trained]

    def check() -> Array:
        step()
        found: Array = lstm.gradients([one.detach().numpy().T.copy() for one in own.trained])
        with torch.no_grad():
            for one, before in zip(own.trained, first, strict=True):
                one.copy_(before)
        return found

    return Contestant(name, step, check=check)


def exact(lstm: Any, lr: float) -> Array:
    """Give the gradients in float64."""
    own = Own(lstm, torch.float64)
    found: Array = checked("exact", own, lstm, step_of(own, lr, own.outputs)).result()
    return found


def steps(lstm: Any, lr: float) -> list[Contestant]:
    """Make PyTorch's contestants."""
    eager, cells = Own(lstm, torch.float32), Cells(lstm, torch.float32)
    return [
        checked("torch eager", eager, lstm, step_of(eager, lr, eager.outputs)),
        checked("torch compiled cell", cells, lstm, step_of(cells, lr, cells.outputs)),
    ]
