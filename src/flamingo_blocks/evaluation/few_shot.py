"""Accuracy against the number of shots: the answer is named best of a few candidates, or among all words."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor, nn

from flamingo_blocks.data import FlamingoBatch


@dataclass(frozen=True, eq=False)
class Questions:
    """Prompts whose answer is one token.

    Args:
        batch: The prompts, shots included. Each ends in the last column, where the answer is due.
        candidates: Token ids of the answers that each prompt allows.
        answer: Which of the candidates is right.
    """

    batch: FlamingoBatch
    candidates: Int[Tensor, "batch candidates"]
    answer: Int[Tensor, " batch"]


@dataclass(frozen=True)
class Accuracy:
    """Shares of right answers.

    Args:
        closed: The right candidate is the likeliest of the candidates.
        open: The right candidate is the likeliest of all tokens.
        count: Questions asked.
    """

    closed: float
    open: float
    count: int


@torch.no_grad()
def few_shot_accuracy(model: nn.Module, questions: Iterable[Questions]) -> Accuracy:
    """Ask a model questions, and count its right answers.

    Args:
        model: A `Flamingo`, or any module that is called like one.
        questions: Batches of questions.

    Returns:
        The shares of right answers over all batches.

    Raises:
        ValueError: If there is no question.

    Example:
        >>> from flamingo_blocks.data import FlamingoExample, collate
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> model, prompt = build_tiny_flamingo(), [5, 6]
        >>> written = int(model(torch.tensor([prompt])).logits[0, -1].argmax())
        >>> asked = collate([FlamingoExample(prompt)], pad_id=0)
        >>> candidates, answer = torch.tensor([[written + 1, written]]), torch.tensor([1])
        >>> few_shot_accuracy(model, [Questions(asked, candidates, answer)])
        Accuracy(closed=1.0, open=1.0, count=1)
    """
    closed = opened = count = 0
    for asked in questions:
        inputs = replace(asked.batch, labels=None).model_inputs()
        logits = model(**inputs, logits_to_keep=1).logits[:, -1]
        right = asked.candidates.gather(1, asked.answer[:, None])[:, 0]
        closed += int((logits.gather(1, asked.candidates).argmax(dim=1) == asked.answer).sum())
        opened += int((logits.argmax(dim=1) == right).sum())
        count += len(right)
    if not count:
        raise ValueError("questions is empty: nothing to measure")
    return Accuracy(closed / count, opened / count, count)


def few_shot_curve(
    model: nn.Module, draw: Callable[[int], Iterable[Questions]], *, shots: Sequence[int]
) -> dict[int, Accuracy]:
    """Accuracy for each number of shots.

    Args:
        model: As for `few_shot_accuracy`.
        draw: Gives the questions with so many shots; the same ones each time it is asked, so that models and controls
            answer the same questions.
        shots: Numbers of shots.

    Returns:
        Accuracy by number of shots.

    Raises:
        ValueError: If there is no question for a number of shots.

    Example:
        >>> from flamingo_blocks.data import FlamingoExample, collate
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> def draw(number):  # as many examples as shots, then the question
        ...     prompt = collate([FlamingoExample([5, 6] * number + [5])], pad_id=0)
        ...     return [Questions(prompt, candidates=torch.tensor([[6, 7]]), answer=torch.tensor([0]))]
        >>> curve = few_shot_curve(build_tiny_flamingo(), draw, shots=(0, 2))
        >>> [(number, accuracy.count) for number, accuracy in curve.items()]
        [(0, 1), (2, 1)]
    """
    return {number: few_shot_accuracy(model, draw(number)) for number in shots}
