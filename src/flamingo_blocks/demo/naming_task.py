"""The demo's questions as tasks of the evaluation: naming episodes by number of shots, and captions."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from flamingo_blocks.data import ImageSegment
from flamingo_blocks.demo.episodes import Episodes, EpisodeSource
from flamingo_blocks.demo.image_bank import ImageBank
from flamingo_blocks.demo.images import pair_words
from flamingo_blocks.demo.rows import Row
from flamingo_blocks.demo.words import NEW_NAMES, Vocabulary
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.synthetic import CutExactMatch
from flamingo_blocks.evaluation.task import Answering, Task

_QUESTION = "this is a"
_ROWS_AT_ONCE = 100


def image_name(image: int) -> str:
    """What an image of the bank is called in a task.

    Args:
        image: Its number.
    """
    return f"bank/{image}"


def naming_task(
    row: Row, bank: ImageBank, vocabulary: Vocabulary, *, episodes: int = 400, answering: Answering = "open"
) -> Task:
    """One kind of naming episodes.

    Fewer shots of an episode are the first of more, so that the curve over shots is that of the same questions. Shots
    show each name once before any twice; with fewer shots than names, the question may have a name that none shows.

    Args:
        row: Which pairs, how many names, and whether they are hard to tell apart; its control is left to the run.
        bank: Test images.
        vocabulary: Words and their ids.
        episodes: How many; fewer are the first of more, by hundreds.
        answering: `"closed"`: any name of the episode may be answered. `"open"`: one word of all.

    Example:
        >>> from flamingo_blocks.demo.images import NUM_PAIRS
        >>> from flamingo_blocks.demo.rows import ROWS
        >>> from flamingo_blocks.demo.words import demo_vocabulary
        >>> bank = ImageBank(features=torch.zeros(20 * NUM_PAIRS, 1, 1), pairs=torch.arange(20 * NUM_PAIRS) % NUM_PAIRS)
        >>> task = naming_task(ROWS[2], bank, demo_vocabulary(), episodes=1)
        >>> task.name, task.queries[0].texts["question"], len(task.queries[0].support)
        ('2.seen.open', 'this is a', 8)
    """
    source = EpisodeSource(
        bank=bank, vocabulary=vocabulary, pairs=row.pairs, names=NEW_NAMES, hard_share=float(row.hard)
    )
    shots = max(row.shots)
    generator = torch.Generator().manual_seed(1000 * row.num_names + shots)
    queries: list[TaskItem] = []
    for first in range(0, episodes, _ROWS_AT_ONCE):
        drawn = source.test(batch=_ROWS_AT_ONCE, shots=shots, num_names=row.num_names, generator=generator)
        queries += _items(drawn, bank, vocabulary, first=first, closed=answering == "closed")
    return Task(
        name=f"{row.key}.{answering}",
        kind="continue",
        answering=answering,
        metrics=(CutExactMatch(),),
        queries=tuple(queries[:episodes]),
        max_new_tokens=1,
    )


def captions_task(bank: ImageBank, *, pairs: Sequence[int], name: str, count: int = 400) -> Task:
    """Captions of test images, right if they are right in full: `an image of a blue seven`.

    Args:
        bank: The images.
        pairs: Pairs whose images are asked about.
        name: Of the task, such as `"captions.seen"`.
        count: How many images, spread over all there are.
    """
    images = torch.isin(bank.pairs, torch.tensor(pairs)).nonzero()[:, 0]
    images = images[torch.linspace(0, len(images) - 1, min(count, len(images))).long()]
    captions = {image: f"an image of a {' '.join(pair_words(int(bank.pairs[image])))}" for image in images.tolist()}
    return Task(
        name=name,
        kind="continue",
        answering="open",
        metrics=(CutExactMatch(),),
        queries=tuple(_item(str(image), image, caption, question="") for image, caption in captions.items()),
        max_new_tokens=8,
    )


def _items(drawn: Episodes, bank: ImageBank, vocabulary: Vocabulary, *, first: int, closed: bool) -> list[TaskItem]:
    """Episodes as queries with shots of their own."""
    words = vocabulary.words
    name_columns = drawn.texts.input_ids[:, 5::6]  # behind the start, `<image> this is a kulm <EOC>` again and again
    found = []
    for number, (names, said, images) in enumerate(
        zip(drawn.names.tolist(), name_columns.tolist(), drawn.texts.images.tolist(), strict=True), start=first
    ):
        *shots, query = (
            _item(f"{number}/{place}", image, words[name])
            for place, (image, name) in enumerate(zip(images, said, strict=True))
        )
        candidates = tuple(words[name] for name in names)
        found.append(
            replace(
                query,
                id=str(number),
                candidates=candidates if closed else (),
                facts={"chance": 100 / len(names), "names": candidates, "pair": int(bank.pairs[images[-1]])},
                support=tuple(shots),
            )
        )
    return found


def _item(id_: str, image: int, answer: str, *, question: str = _QUESTION) -> TaskItem:
    return TaskItem(
        id=id_, media=(ImageSegment(url=image_name(image)),), texts={"question": question}, answers=(answer,)
    )
