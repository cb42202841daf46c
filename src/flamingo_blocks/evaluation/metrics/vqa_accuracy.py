"""VQA accuracy: how many of ten people gave the answer that was predicted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics.normalise_vqa import PROFILES, VqaProfile, normalise_vqa
from flamingo_blocks.evaluation.metrics.score_answers import score_answers
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.score import Score

TEN = 10  # people were asked, in the official files
ENOUGH = 3  # people who gave an answer, for it to be right


def vqa_accuracy(prediction: str, answers: Sequence[str], *, profile: VqaProfile = "official") -> float:
    """Share of an answer that is right, given what several people answered.

    Each person is left out once, and the prediction scores a third for each of the others who gave it, 1 at most: of
    ten people, 0, 1, 2, 3 and 4 who agree with it make 0, 0.3, 0.6, 0.9 and 1.

    Args:
        prediction: The predicted answer.
        answers: What people answered: ten, in the official files.
        profile: Which answers are normalised. `"official"`: all, unless people agree to the letter, then none;
            `"always"`: all; `"textvqa"`: all, in the way of that task; `"vizwiz"`: only the prediction.

    Returns:
        From 0 to 1.

    Raises:
        ValueError: If there is no answer, or `profile` is none of the four.

    Example:
        >>> vqa_accuracy("a dog", ["dog"] * 3 + ["cat"] * 7)
        0.9
        >>> vqa_accuracy("a dog", ["dog"] * 10), vqa_accuracy("a dog", ["dog"] * 10, profile="always")
        (0.0, 1.0)

    Source:
        Antol et al. (arXiv 1505.00468), as visualqa.org/evaluation.html computes it. People are told apart by their
        place: code that compares rows instead leaves out all who gave the same answer, where rows have no ids.
    """
    _check(profile)
    return _leave_one_out(*_in_profile(prediction, answers, profile))


def _check(profile: VqaProfile) -> None:
    if profile not in PROFILES:
        raise ValueError(f"profile is {profile!r}, wanted one of {', '.join(map(repr, PROFILES))}")


def _in_profile(prediction: str, answers: Sequence[str], profile: VqaProfile) -> tuple[str, Sequence[str]]:
    if profile == "official" and len(set(answers)) == 1:
        return prediction.replace("\n", " ").replace("\t", " ").strip(), answers
    if profile != "vizwiz":
        answers = [normalise_vqa(answer, profile) for answer in answers]
    return normalise_vqa(prediction, profile), answers


def _leave_one_out(prediction: str, answers: Sequence[str]) -> float:
    if not answers:
        raise ValueError("answers is empty; give what people answered, one answer at least")
    same = sum(answer == prediction for answer in answers)
    # Whoever agrees has one agreeing person less beside.
    thirds = same * min(ENOUGH, same - 1) + (len(answers) - same) * min(ENOUGH, same)
    return thirds / (ENOUGH * len(answers))


@dataclass(frozen=True, kw_only=True)
class VqaAccuracy:
    """VQA accuracy over all items, from 0 to 100, with that of each type of answer as a part.

    Items without answers do not count. `facts["answer_type"]` and `facts["question_type"]` make the parts.

    Args:
        profile: Which answers are normalised, as in `vqa_accuracy`.
        beside: Profiles whose values are given as parts, by their variants.

    Raises:
        ValueError: If a profile is none of the four.

    Example:
        >>> item = TaskItem(id="1", media=(), answers=("yes",) * 9 + ("no",), facts={"answer_type": "yes/no"})
        >>> said = Prediction(task="vqav2", id="1", shots=0, seed=0, answer="Yes.")
        >>> VqaAccuracy().score([item], [said]).parts
        {'answer_type yes/no': 100.0}
    """

    profile: VqaProfile = "official"
    beside: tuple[VqaProfile, ...] = ()

    def __post_init__(self) -> None:
        for profile in (self.profile, *self.beside):
            _check(profile)

    @property
    def variant(self) -> str:
        """The rule."""
        return _variant(self.profile)

    def score(self, items: Sequence[TaskItem], predictions: Sequence[Prediction]) -> Score:
        """Score answers.

        Args:
            items: The queries, with what people answered as `answers`.
            predictions: What was answered to each.

        Raises:
            ValueError: If they differ in number or in their ids.
        """
        rules = {_variant(profile): partial(vqa_accuracy, profile=profile) for profile in (self.profile, *self.beside)}
        score = score_answers(items, predictions, rules)
        unusual = sum(len(item.answers) not in {0, TEN} for item in items)
        return replace(score, counts={**score.counts, "other_than_ten_answers": unusual})


def _variant(profile: VqaProfile) -> str:
    return f"VQA({profile})"
