"""What a model answered to one query, with all that is needed to score it again without the model."""

from dataclasses import dataclass
from typing import Literal

StoppedBy = Literal["end_of_chunk", "end_of_text", "keyword", "length"]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The answer to one query with one number of shots, one seed and one control: a line of `predictions.jsonl`.

    Args:
        task: Name of the task.
        id: Id of the query.
        shots: Shots asked for.
        seed: Decides what was drawn.
        control: What was taken away from the model; `"none"` for its own score.
        shot_ids: Ids of the shots in the prompt, first to last; the ones in text alone, where `text_shots` says so.
        text_shots: Shots that stood in the prompt without their images, for want of others (the paper's 0 shots).
        dropped_shots: Shots left out because the prompt was longer than the model reads.
        prompt: The prompt as text, with `<image>` for each item.
        raw: What the model wrote, where it was asked to write.
        answer: `raw` after the clean-up of the profile; or the candidate that was found likeliest.
        stopped_by: What ended the writing.
        log_probs: Natural logarithm of the probability of each candidate, summed over its tokens, in the order of the
            task's candidates, or the item's own.
        num_tokens: Tokens of each candidate.

    Example:
        >>> prediction = Prediction(task="vqav2", id="42000", shots=4, seed=0, raw=" a net<EOC>", answer="a net")
        >>> prediction.key
        ('vqav2', 4, 0, 'none', '42000')
    """

    task: str
    id: str
    shots: int
    seed: int
    control: str = "none"
    shot_ids: tuple[str, ...] = ()
    text_shots: int = 0
    dropped_shots: int = 0
    prompt: str = ""
    raw: str | None = None
    answer: str = ""
    stopped_by: StoppedBy | None = None
    log_probs: tuple[float, ...] = ()
    num_tokens: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[str, int, int, str, str]:
        """What tells it from every other: task, shots, seed, control, query. Files are sorted by it."""
        return (self.task, self.shots, self.seed, self.control, self.id)
