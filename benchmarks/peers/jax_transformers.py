"""JAX's twins of transformers, with its own attention."""

from __future__ import annotations

from typing import Any

from models.vit import SCALE, VisionTransformer
from peers import installed
from symgraph.nn import MultiHeadAttention, TransformerBlock

if installed("jax"):
    from peers.jax_nets import Run, forward, jax, jnp

    @forward.register
    def _(module: MultiHeadAttention, x: Any, run: Run) -> Any:
        batch, steps, features = x.shape
        joint = forward(module.inputs, x, run)
        cut = joint.reshape(batch, steps, 3, module.heads, features // module.heads)
        query, key, content = (cut[:, :, part] for part in range(3))
        seen = jax.nn.dot_product_attention(query, key, content)
        return forward(module.outputs, seen.reshape(batch, steps, features), run)

    @forward.register
    def _(module: TransformerBlock, x: Any, run: Run) -> Any:
        x = x + forward(module.attention, forward(module.norm, x, run), run)
        return x + forward(module.mlp, forward(module.mlp_norm, x, run), run)

    @forward.register
    def _(module: VisionTransformer, x: Any, run: Run) -> Any:
        grid = forward(module.patches, x * SCALE, run)  # (B, rows, columns, features)
        words = grid.reshape(len(x), -1, grid.shape[-1])
        token = jnp.broadcast_to(run.state["token"], (len(x), 1, grid.shape[-1]))
        words = jnp.concatenate([token, words], 1) + run.state["positions"]
        for block in module.blocks:
            words = forward(block, words, run)
        return forward(module.head, forward(module.norm, words[:, 0], run), run)
