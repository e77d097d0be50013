"""PyTorch's twins of the networks in zoo.py, as its users would write them."""

from __future__ import annotations

from typing import Any

from zoo import GRU, Join, Level, MeanOfSteps, Sum, Up

from peers.torch_twins import Book, nn, torch, twin


class TorchLevel(nn.Module):  # type: ignore[misc]
    """One U of a U-Net."""

    def __init__(self, module: Level, book: Book) -> None:
        super().__init__()
        self.down, self.pool = twin(module.down, book), twin(module.pool, book)
        self.below, self.up = twin(module.below, book), twin(module.up, book)
        self.join = twin(module.join, book)

    def forward(self, x: Any) -> Any:
        """x: (B, inputs, H, W)."""
        here = self.down(x)
        return self.join(torch.cat([here, self.up(self.below(self.pool(here)))], 1))


class TorchMean(nn.Module):  # type: ignore[misc]
    """The mean of all steps."""

    def forward(self, x: Any) -> Any:
        """x: (B, T, features)."""
        return x.mean(1)


class TorchGRU(nn.Module):  # type: ignore[misc]
    """The library's GRU; its last state."""

    def __init__(self, module: GRU, book: Book) -> None:
        super().__init__()
        self.gru = nn.GRU(int(module.weight_x.shape[0]), module.units, batch_first=True)
        book.keep(module.weight_x, self.gru.weight_ih_l0, turned=True)
        book.keep(module.weight_h, self.gru.weight_hh_l0, turned=True)
        book.keep(module.bias_x, self.gru.bias_ih_l0)
        book.keep(module.bias_h, self.gru.bias_hh_l0)

    def forward(self, x: Any) -> Any:
        """x: (B, T, inputs)."""
        return self.gru(x)[1][0]


class TorchSum(nn.Module):  # type: ignore[misc]
    """x + branch(x)."""

    def __init__(self, branch: Any) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Any) -> Any:
        """Any shape that the branch keeps."""
        return x + self.branch(x)


class TorchJoin(nn.Module):  # type: ignore[misc]
    """Two branches joined along the channels."""

    def __init__(self, left: Any, right: Any) -> None:
        super().__init__()
        self.left, self.right = left, right

    def forward(self, x: Any) -> Any:
        """x: (B, C, H, W)."""
        return torch.cat([self.left(x), self.right(x)], 1)


@twin.register
def _(module: Up, book: Book) -> Any:
    inputs, outputs = map(int, module.weight.shape[:2])
    made = nn.ConvTranspose2d(inputs, outputs, 2, 2, bias=False)
    book.keep(module.weight, made.weight)
    return made


@twin.register
def _(module: Sum, book: Book) -> Any:
    return TorchSum(twin(module.branch, book))


@twin.register
def _(module: Join, book: Book) -> Any:
    return TorchJoin(twin(module.left, book), twin(module.right, book))


@twin.register
def _(module: MeanOfSteps, book: Book) -> Any:
    return TorchMean()


twin.register(Level, TorchLevel)
twin.register(GRU, TorchGRU)
