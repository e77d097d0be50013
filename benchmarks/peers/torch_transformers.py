"""PyTorch's twins of transformers, as its users would write them, with its own attention."""

from __future__ import annotations

from typing import Any

from models.vit import SCALE, VisionTransformer
from peers.torch_twins import Book, F, nn, torch, twin
from symgraph.nn import MultiHeadAttention, TransformerBlock


class TorchAttention(nn.Module):  # type: ignore[misc]
    """Self-attention by the library's own function."""

    def __init__(self, module: MultiHeadAttention, book: Book) -> None:
        super().__init__()
        self.heads = module.heads
        self.inputs, self.outputs = twin(module.inputs, book), twin(module.outputs, book)

    def forward(self, x: Any) -> Any:
        """x: (B, T, features)."""
        batch, steps, features = x.shape
        joint = self.inputs(x).view(batch, steps, 3, self.heads, features // self.heads)
        query, key, content = joint.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, content)
        return self.outputs(seen.transpose(1, 2).reshape(batch, steps, features))


class TorchBlock(nn.Module):  # type: ignore[misc]
    """Attention and a perceptron, each of a norm and added to what it got."""

    def __init__(self, module: TransformerBlock, book: Book) -> None:
        super().__init__()
        self.norm, self.attention = twin(module.norm, book), twin(module.attention, book)
        self.mlp_norm, self.mlp = twin(module.mlp_norm, book), twin(module.mlp, book)

    def forward(self, x: Any) -> Any:
        """x: (B, T, features)."""
        x = x + self.attention(self.norm(x))
        return x + self.mlp(self.mlp_norm(x))


class TorchVision(nn.Module):  # type: ignore[misc]
    """Patches, a class token, positions, blocks, and a dense layer on the class token."""

    def __init__(self, module: VisionTransformer, book: Book) -> None:
        super().__init__()
        self.patches = twin(module.patches, book)
        self.token = nn.Parameter(torch.empty(*map(int, module.token.shape)))
        self.positions = nn.Parameter(torch.empty(*map(int, module.positions.shape)))
        book.keep(module.token, self.token)
        book.keep(module.positions, self.positions)
        self.blocks = nn.Sequential(*(twin(block, book) for block in module.blocks))
        self.norm, self.head = twin(module.norm, book), twin(module.head, book)

    def forward(self, x: Any) -> Any:
        """x: (B, 3, side, side)."""
        words = self.patches(x * SCALE).flatten(2).transpose(1, 2)
        token = self.token.expand(len(words), -1, -1)
        words = self.blocks(torch.cat([token, words], 1) + self.positions)
        return self.head(self.norm(words[:, 0]))


twin.register(MultiHeadAttention, TorchAttention)
twin.register(TransformerBlock, TorchBlock)
twin.register(VisionTransformer, TorchVision)
