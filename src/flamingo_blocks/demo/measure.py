"""The demo's questions: naming episodes by number of shots, their controls, and captions."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch

from flamingo_blocks.data import FlamingoBatch
from flamingo_blocks.demo.episodes import EpisodeSource, Texts, caption_ids
from flamingo_blocks.demo.image_bank import ImageBank
from flamingo_blocks.demo.model import to_batch
from flamingo_blocks.demo.rows import ROWS, Row
from flamingo_blocks.demo.words import NEW_NAMES, Vocabulary
from flamingo_blocks.evaluation import Questions, exact_match, few_shot_curve, shuffle_support
from flamingo_blocks.models import Flamingo
from flamingo_blocks.nn import closed_gates
from flamingo_blocks.training import IGNORED

Curve = dict[str, float]
_ROWS_AT_ONCE = 100


def naming_curves(
    flamingo: Flamingo,
    bank: ImageBank,
    vocabulary: Vocabulary,
    *,
    rows: Sequence[Row] = ROWS,
    episodes: int = 400,
    on_row: Callable[[], None] = lambda: None,
) -> dict[str, Curve]:
    """Ask every kind of question with every number of shots.

    Names are new ones, which never stood beside an image, and images are test images.

    Args:
        flamingo: The model.
        bank: Test images.
        vocabulary: Words and their ids.
        rows: Kinds of questions.
        episodes: Episodes for each number of shots.
        on_row: Called after each kind of question.

    Returns:
        Accuracy by number of shots: `closed` and `open` for each row, closed alone for controls.
    """
    curves: dict[str, Curve] = {}
    for row in rows:

        def draw(shots: int, row: Row = row) -> Iterator[Questions]:
            return _questions(row, flamingo, bank, vocabulary, shots=shots, episodes=episodes)

        with closed_gates(flamingo) if row.control == "gates_closed" else nullcontext():
            found = few_shot_curve(flamingo, draw, shots=row.shots)
        key = row.key if row.control else f"{row.key}.closed"
        curves[key] = {str(shots): accuracy.closed for shots, accuracy in found.items()}
        if not row.control:
            curves[f"{row.key}.open"] = {str(shots): accuracy.open for shots, accuracy in found.items()}
        on_row()
    return curves


def _questions(
    row: Row, flamingo: Flamingo, bank: ImageBank, vocabulary: Vocabulary, *, shots: int, episodes: int
) -> Iterator[Questions]:
    """The same episodes each time, so that a control answers what the model answered."""
    source = EpisodeSource(
        bank=bank, vocabulary=vocabulary, pairs=row.pairs, names=NEW_NAMES, hard_share=float(row.hard)
    )
    generator = torch.Generator().manual_seed(1000 * row.num_names + shots)
    orders = torch.Generator().manual_seed(shots)
    for asked in range(0, episodes, _ROWS_AT_ONCE):
        drawn = source.test(
            batch=min(_ROWS_AT_ONCE, episodes - asked), shots=shots, num_names=row.num_names, generator=generator
        )
        batch = to_batch(drawn.prompts(), bank, flamingo)
        if row.control == "permuted":
            batch = replace(batch, layout=shuffle_support(batch.layout, generator=orders))
        yield Questions(batch, drawn.names, drawn.answer)


def caption_accuracy(
    flamingo: Flamingo, bank: ImageBank, vocabulary: Vocabulary, *, pairs: Sequence[int], count: int = 400
) -> float:
    """Share of test images whose greedy caption is right in full.

    Args:
        flamingo: The model.
        bank: Test images.
        vocabulary: Words and their ids.
        pairs: Pairs whose images are asked about.
        count: How many images, spread over all there are.
    """
    images = torch.isin(bank.pairs, torch.tensor(pairs)).nonzero()
    images = images[torch.linspace(0, len(images) - 1, min(count, len(images))).long()]
    captions = caption_ids(vocabulary)

    def batches() -> Iterator[FlamingoBatch]:
        for first in range(0, len(images), _ROWS_AT_ONCE):
            some = images[first : first + _ROWS_AT_ONCE]
            batch = to_batch(Texts(captions[bank.pairs[some[:, 0]]], some), bank, flamingo)
            answers = batch.input_ids.clone()
            answers[:, :2] = IGNORED  # the start and the tag are given
            yield replace(batch, labels=answers)

    return exact_match(flamingo, batches())
