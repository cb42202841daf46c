"""The demo's Flamingo: the frozen tower and language model, and between them the blocks that are trained."""

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from flamingo_blocks.data import FlamingoBatch
from flamingo_blocks.demo.episodes import EpisodeSource, Texts, draw_captions
from flamingo_blocks.demo.image_bank import ImageBank
from flamingo_blocks.demo.images import SEEN_PAIRS
from flamingo_blocks.demo.language_model import TinyDecoder
from flamingo_blocks.demo.tower import DigitTower
from flamingo_blocks.demo.words import END_OF_CHUNK, IMAGE, NAMES_BESIDE_IMAGES, THINGS, Vocabulary
from flamingo_blocks.models import Flamingo
from flamingo_blocks.nn import GatedCrossAttentionBlock, PerceiverResampler
from flamingo_blocks.training import (
    IGNORED,
    Objective,
    StepReport,
    TrainConfig,
    flamingo_loss,
    make_labels,
    train,
    warmup_hold_decay,
)
from flamingo_blocks.types import Scope

Task = Literal["naming", "captions"]
Updates = Literal["accumulate", "round_robin"]


def build_flamingo(
    tower: DigitTower, lm: TinyDecoder, vocabulary: Vocabulary, *, scope: Scope = "last", every: int = 1
) -> Flamingo:
    """Put a resampler and gated blocks between a tower and a language model.

    Args:
        tower: Trained; frozen from here on.
        lm: Trained on text; frozen from here on.
        vocabulary: Words and their ids.
        scope: `"last"`: a token sees the latest image; `"all"`: all images so far, for the ablation.
        every: 1 for a block before each layer, 2 before the first of every two, and so on.

    Returns:
        A Flamingo that computes what the language model does, until its gates open.
    """
    resampler = PerceiverResampler(
        vision_dim=tower.dim,
        dim=tower.dim,
        num_latents=4,
        depth=1,
        num_heads=4,
        head_dim=tower.dim // 4,
        ff_mult=2,
        max_frames=1,
        final_norm=True,
    )
    blocks = {
        index: GatedCrossAttentionBlock(lm.dim, vision_dim=tower.dim, num_heads=lm.num_heads, ff_mult=2)
        for index in range(0, len(lm.layers), every)
    }
    flamingo = Flamingo(
        vision=tower,
        resampler=resampler,
        lm=lm,
        blocks=blocks,
        media_token_id=vocabulary.ids[IMAGE],
        end_token_id=vocabulary.ids[END_OF_CHUNK],
        num_new_tokens=len(vocabulary.new_tokens),
        scope=scope,
    )
    assert flamingo.token_rows is not None
    flamingo.token_rows.input.data.copy_(_rows_of_new_tokens(lm, vocabulary))
    return flamingo


def _rows_of_new_tokens(lm: TinyDecoder, vocabulary: Vocabulary) -> Float[Tensor, "tokens dim"]:
    """`<image>` starts as the average thing, whose place it takes in `fox this is a dax`; `<EOC>` as the full stop.

    The frozen model has read neither, and rows far from all that it knows would take it out of its depth.
    """
    table = lm.embedding.weight
    image, end = table[vocabulary.encode(THINGS)].mean(dim=0), table[vocabulary.ids["."]]
    rows = {IMAGE: image, END_OF_CHUNK: end}
    return torch.stack([rows[token] for token in vocabulary.new_tokens]).detach()


def to_batch(texts: Texts, bank: ImageBank, flamingo: Flamingo) -> FlamingoBatch:
    """What the model reads: ids, labels, the features of the images, and which token sees which.

    Args:
        texts: Token ids and the images at their tags.
        bank: The images.
        flamingo: The model, which knows its media tag and its scope.
    """
    labels = make_labels(texts.input_ids, ignored_ids=[flamingo.media_token_id])
    if texts.unknowable is not None:
        labels = labels.masked_fill(texts.unknowable, IGNORED)
    return FlamingoBatch(
        input_ids=texts.input_ids,
        attention_mask=torch.ones_like(texts.input_ids, dtype=torch.bool),
        labels=labels,
        features=bank.features[texts.images].flatten(0, 1)[:, None],
        layout=flamingo.make_layout(texts.input_ids).prepare(),
    )


def train_flamingo(
    flamingo: Flamingo,
    bank: ImageBank,
    vocabulary: Vocabulary,
    *,
    tasks: tuple[Task, ...],
    steps: int,
    lr: float,
    seed: int,
    updates: Updates = "accumulate",
    on_step: Callable[[StepReport], None] | None = None,
) -> None:
    """Train resampler, gated blocks and new tokens; their gradients of all tasks are summed in each step.

    Any other part that needs gradients is trained as well.

    Args:
        flamingo: Changed in place.
        bank: Training images.
        vocabulary: Words and their ids.
        tasks: `"naming"`: episodes of nine images with two to five names; `"captions"`: one image and its caption.
        steps: Updates.
        lr: Learning rate; the gates' is ten times it, since a gate moves about so much a step.
        seed: Decides episodes and captions.
        updates: `"accumulate"`, or `"round_robin"` for an update for one task a step, in turn.
        on_step: Called after each step.
    """
    generator = torch.Generator().manual_seed(seed)
    source = EpisodeSource(
        bank=bank, vocabulary=vocabulary, pairs=SEEN_PAIRS, names=NAMES_BESIDE_IMAGES, hard_share=0.5
    )

    def draw(task: Task) -> Texts:
        if task == "naming":
            return source.training(batch=32, num_images=9, num_names=(2, 5), generator=generator).texts
        return draw_captions(bank, vocabulary, pairs=SEEN_PAIRS, batch=32, generator=generator)

    def batches(task: Task) -> Iterator[FlamingoBatch]:
        while True:
            yield to_batch(draw(task), bank, flamingo)

    train(
        TrainConfig(
            model=flamingo,
            objectives=[Objective(name=task, batches=batches(task), loss=flamingo_loss) for task in tasks],
            steps=steps,
            lr=lr,
            schedule=warmup_hold_decay(warmup=30, steps=steps, hold=0.6, floor=0.02),
            weight_decay=0.0,
            gate_lr_factor=10.0,
            betas=(0.9, 0.98),
            updates=updates,
            on_step=on_step,
        )
    )
    flamingo.eval()
