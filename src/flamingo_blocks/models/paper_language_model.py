"""A decoder in plain torch with the parameters that the paper's language models are counted with."""

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from flamingo_blocks.errors import ShapeError
from flamingo_blocks.nn.feed_forward import FeedForward
from flamingo_blocks.nn.module_config import constructor_arguments


class PaperLanguageModel(nn.Module):
    """Decoder with relative positions (Transformer-XL), RMSNorm and a tied head: `13 depth dim^2 + vocab dim` weights.

    Stands where the paper has Chinchilla, whose weights are not public: for sizes on the meta device, and small, as a
    language model without transformers.

    Args:
        vocab_size: Entries of the table.
        dim: Width.
        depth: Decoder layers.
        num_heads: Heads; must divide `dim`.

    Raises:
        ValueError: If `num_heads` does not divide `dim`.

    Example:
        >>> PaperLanguageModel(vocab_size=10, dim=8, depth=2, num_heads=2)(torch.tensor([[1, 2, 3]])).shape
        torch.Size([1, 3, 10])

    Source:
        Flamingo (arXiv 2204.14198), table 4 and section 3.2; the relative positions of Gopher and Chinchilla add one
        `dim x dim` projection to each layer, which the published counts confirm.
    """

    def __init__(self, *, vocab_size: int, dim: int, depth: int, num_heads: int) -> None:
        arguments = constructor_arguments(locals())
        super().__init__()
        self.config = arguments
        if dim % num_heads:
            raise ShapeError(f"dim is {dim}, not a multiple of num_heads {num_heads}")
        self.embedding = nn.Embedding(vocab_size, dim)
        self.layers = nn.ModuleList(PaperDecoderLayer(dim, num_heads) for _ in range(depth))
        self.norm = nn.RMSNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, vocab_size, bias=False)
        nn.init.normal_(self.embedding.weight, std=dim**-0.5)
        self.head.weight = self.embedding.weight

    def get_input_embeddings(self) -> nn.Embedding:
        """The token embedding."""
        return self.embedding

    def get_output_embeddings(self) -> nn.Linear:
        """The output projection."""
        return self.head

    def forward(
        self, input_ids: Int[Tensor, "batch text"], attention_mask: Tensor | None = None
    ) -> Float[Tensor, "batch shown vocab"]:
        """Score the next token at each position.

        Args:
            input_ids: Token ids.
            attention_mask: [batch text], 1 at real tokens; or [batch 1 text text], added to the scores.

        Returns:
            Logits; of fewer columns where a hook shows the head fewer.
        """
        text = input_ids.shape[1]
        causal = torch.ones(text, text, dtype=torch.bool, device=input_ids.device).tril()[None, None]
        positions = torch.arange(text, device=input_ids.device)[None]
        if attention_mask is not None and attention_mask.ndim == 4:
            causal = causal & (attention_mask == 0)
        elif attention_mask is not None:
            causal = causal & (attention_mask.bool()[:, None, None] | torch.eye(text, device=input_ids.device).bool())
            positions = attention_mask.long().cumsum(1)  # pads, which may stand between turns, are no distance
        x: Tensor = self.embedding(input_ids)
        distances = _sinusoids(text, x.shape[-1], x)
        back = (positions[..., None] - positions[:, None]).clamp(min=0)[:, None]
        for layer in self.layers:
            x = layer(x, distances, back, causal)
        logits: Tensor = self.head(self.norm(x))
        return logits


class PaperDecoderLayer(nn.Module):
    """Causal self-attention with relative positions, then a feed-forward layer."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.RMSNorm(dim, eps=1e-6)
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.v_proj = nn.Linear(dim, dim, bias=False)
        self.distance_proj = nn.Linear(dim, dim, bias=False)
        self.o_proj = nn.Linear(dim, dim, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(num_heads, 1, dim // num_heads))
        self.distance_bias = nn.Parameter(torch.zeros(num_heads, 1, dim // num_heads))
        self.feed_forward = FeedForward(dim, activation="gelu", norm="rms_norm")

    def forward(
        self,
        x: Float[Tensor, "batch text dim"],
        distances: Float[Tensor, "text dim"],
        back: Int[Tensor, "#batch 1 text text"],
        allowed: Bool[Tensor, "#batch 1 text text"],
    ) -> Float[Tensor, "batch text dim"]:
        """Run the layer; `back` holds how far behind each token every other one stands."""
        y = self.norm(x)
        query, key, value = (
            rearrange(proj(y), "batch text (heads dim) -> batch heads text dim", heads=self.num_heads)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        far = rearrange(self.distance_proj(distances), "far (heads dim) -> heads far dim", heads=self.num_heads)
        content = (query + self.content_bias) @ key.transpose(-1, -2)
        query = query + self.distance_bias
        position = einsum(query, far, "batch heads text dim, heads far dim -> batch heads text far")
        scores = (content + position.gather(-1, back.expand_as(content))) * query.shape[-1] ** -0.5
        out = scores.masked_fill(~allowed, float("-inf")).softmax(-1) @ value
        x = x + self.o_proj(rearrange(out, "batch heads text dim -> batch text (heads dim)"))
        update: Tensor = self.feed_forward(x)
        return x + update


def _sinusoids(length: int, dim: int, like: Tensor) -> Float[Tensor, "length dim"]:
    """Sines and cosines of the distances 0, 1, ..., in the dtype and on the device of `like`."""
    frequency = 10000 ** (-torch.arange(0, dim, 2, device=like.device) / dim)
    angle = torch.arange(length, device=like.device)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)[:, :dim].to(like.dtype)
