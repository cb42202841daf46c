"""The demo's language model: a tiny decoder of our own that knows nothing of Flamingo, nor of Hugging Face.

Its one peculiarity is a short convolution: each token also reads the few before it. Without it, copying from earlier
in a document takes such a small model thousands of steps to learn; with it, two hundred.
"""

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from flamingo_blocks.demo.corpus import binding_documents, text_batch
from flamingo_blocks.demo.words import NAMES, Vocabulary
from flamingo_blocks.training import Objective, StepReport, TrainConfig, next_token_loss, train, warmup_hold_decay

TEXT_LENGTH = 65


class ShortConvolution(nn.Module):
    """Add to each token a learned multiple, by channel, of each of the few tokens before it.

    Args:
        dim: Width of the tokens.
        reach: How many tokens back. The demo needs 4: in `fox this is a dax` the key stands 4 before the name.
    """

    def __init__(self, *, dim: int, reach: int) -> None:
        super().__init__()
        # Starting at 0.5, not 0, lets copying form in 150 steps instead of 600.
        self.weight = nn.Parameter(torch.full((reach, dim), 0.5))

    def forward(self, text: Float[Tensor, "batch text dim"]) -> Float[Tensor, "batch text dim"]:
        """Mix each token with those before it."""
        mixed = text
        for back, weight in enumerate(self.weight, start=1):
            mixed = mixed + weight * F.pad(text, (0, 0, back, 0))[:, : text.shape[1]]
        return mixed


class DecoderLayer(nn.Module):
    """Pre-norm causal self-attention behind a short convolution, then a feed-forward layer. No position embedding.

    Args:
        dim: Width of the tokens.
        num_heads: Attention heads; must divide `dim`.
        ff_mult: Width of the feed-forward layer in multiples of `dim`.
        reach: Reach of the short convolution.
        depth: Layers of the whole decoder, for the scale of the initial weights.
    """

    def __init__(self, *, dim: int, num_heads: int, ff_mult: int, reach: int, depth: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim)
        self.convolution = ShortConvolution(dim=dim, reach=reach)
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim, bias=False)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, ff_mult * dim), nn.GELU(), nn.Linear(ff_mult * dim, dim)
        )
        self._reset(dim, depth)

    def _reset(self, dim: int, depth: int) -> None:
        up, down = self.feed_forward[1], self.feed_forward[3]
        assert isinstance(up, nn.Linear) and isinstance(down, nn.Linear)
        for layer in (self.to_qkv, up):
            nn.init.normal_(layer.weight, std=dim**-0.5)
        for layer in (self.to_out, down):
            nn.init.normal_(layer.weight, std=dim**-0.5 / math.sqrt(2 * depth))
        with torch.no_grad():
            # Keys start equal to queries: attention begins as "find similar tokens", which is half of copying.
            self.to_qkv.weight[dim : 2 * dim] = self.to_qkv.weight[:dim]

    def forward(self, text: Float[Tensor, "batch text dim"]) -> Float[Tensor, "batch text dim"]:
        """Run the layer."""
        qkv = self.to_qkv(self.convolution(self.norm(text)))
        query, key, value = rearrange(
            qkv, "batch text (three heads dim) -> three batch heads text dim", three=3, heads=self.num_heads
        )
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        text = text + self.to_out(rearrange(seen, "batch heads text dim -> batch text (heads dim)"))
        result: Tensor = text + self.feed_forward(text)
        return result


class TinyDecoder(nn.Module):
    """A decoder language model of a quarter of a million parameters, in plain torch.

    Args:
        vocab_size: Words it knows.
        dim: Width of the tokens.
        num_layers: Decoder layers.
        num_heads: Attention heads; must divide `dim`.
        ff_mult: Width of the feed-forward layers in multiples of `dim`.
        reach: Reach of the short convolutions.

    Example:
        >>> TinyDecoder(vocab_size=10, dim=8, num_heads=2)(torch.zeros(1, 3, dtype=torch.long)).shape
        torch.Size([1, 3, 10])
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        dim: int = 96,
        num_layers: int = 2,
        num_heads: int = 4,
        ff_mult: int = 4,
        reach: int = 4,
    ) -> None:
        super().__init__()
        self.config = {  # a saved model builds the language model anew from this
            "vocab_size": vocab_size,
            "dim": dim,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "ff_mult": ff_mult,
            "reach": reach,
        }
        self.embedding = nn.Embedding(vocab_size, dim)
        self.layers = nn.ModuleList(
            DecoderLayer(dim=dim, num_heads=num_heads, ff_mult=ff_mult, reach=reach, depth=num_layers)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, vocab_size, bias=False)
        self.head.weight = self.embedding.weight
        self.dim, self.num_heads, self.scale = dim, num_heads, dim**-0.5

    def get_input_embeddings(self) -> nn.Embedding:
        """The embedding table."""
        return self.embedding

    def get_output_embeddings(self) -> nn.Linear:
        """The head, which shares the table's weight."""
        return self.head

    def forward(self, input_ids: Int[Tensor, "batch text"]) -> Float[Tensor, "batch text vocab"]:
        """Logits of the token after each token."""
        text = self.embedding(input_ids)
        for layer in self.layers:
            text = layer(text)
        # Embeddings have unit variance, so logits are scaled down; after the head, so that logits that a hook on the
        # head adds for new tokens are scaled as well.
        logits: Tensor = self.head(self.norm(text)) * self.scale
        return logits


def text_loss(lm: nn.Module, ids: Int[Tensor, "batch text"]) -> Float[Tensor, ""]:
    """Next-token loss on text alone."""
    return next_token_loss(lm(ids), ids)


def train_language_model(
    lm: nn.Module,
    vocabulary: Vocabulary,
    *,
    steps: int,
    seed: int,
    on_step: Callable[[StepReport], None] | None = None,
) -> None:
    """Train the language model on text alone, then freeze it.

    Args:
        lm: Changed in place.
        vocabulary: Words and their ids.
        steps: Updates; 0 leaves the weights random, for the control.
        seed: Decides the text.
        on_step: Called after each step.
    """
    generator = torch.Generator().manual_seed(seed)

    def batches() -> Iterator[Int[Tensor, "batch text"]]:
        while True:
            yield text_batch(vocabulary, batch=32, length=TEXT_LENGTH, generator=generator)

    if steps:
        train(
            TrainConfig(
                model=lm,
                objectives=[Objective(name="text", batches=batches(), loss=text_loss)],
                steps=steps,
                lr=3e-3,
                schedule=warmup_hold_decay(warmup=30, steps=steps, hold=0.6, floor=0.02),
                weight_decay=0.0,
                betas=(0.9, 0.98),
                on_step=on_step,
            )
        )
    lm.eval().requires_grad_(False)


@torch.no_grad()
def text_recall(lm: nn.Module, vocabulary: Vocabulary, *, seed: int, documents: int = 128) -> float:
    """How often the model names a thing rightly that its document has named before.

    This is what the few-shot demo stands on: an image will take the place of the thing.

    Args:
        lm: The language model; gives logits for token ids.
        vocabulary: Words and their ids.
        seed: Decides the text.
        documents: How many are read.

    Returns:
        Share of right answers; the best guess over the whole vocabulary counts.
    """
    generator = torch.Generator().manual_seed(seed)
    ids = binding_documents(vocabulary, batch=documents, length=TEXT_LENGTH, generator=generator)
    asked = torch.isin(ids[:, 1:], torch.tensor(vocabulary.encode(NAMES)))
    earlier = torch.ones(TEXT_LENGTH, TEXT_LENGTH, dtype=torch.bool).tril(-1)
    repeated = ((ids[:, :, None] == ids[:, None, :]) & earlier).any(dim=-1)[:, 1:]
    right = lm(ids[:, :-1]).argmax(dim=-1) == ids[:, 1:]
    return float(right[asked & repeated].float().mean())
