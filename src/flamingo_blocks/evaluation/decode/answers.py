"""What comes back from a model: what it wrote, and how likely it finds candidates."""

from dataclasses import dataclass

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.prediction import StoppedBy


class NotFiniteError(EvaluationError):
    """A model gives a log-probability that is no finite number.

    Args:
        query: Number of the query among those that were asked.
        problem: Which candidate, and what was found.

    Example:
        >>> error = NotFiniteError(3, "candidate 'a cat' has log-probability nan")
        >>> error.query, str(error)
        (3, "query 3: candidate 'a cat' has log-probability nan")
    """

    def __init__(self, query: int, problem: str) -> None:
        super().__init__(f"query {query}: {problem}")
        self.query, self.problem = query, problem


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a model wrote behind a query.

    Args:
        text: The text up to the stop.
        ids: The tokens, the one that stopped it included.
        stopped_by: What stopped it: `"end_of_chunk"`, `"end_of_text"` or `"length"`.

    Example:
        >>> Written(text=" a net", ids=(5, 6, 33), stopped_by="end_of_chunk").text
        ' a net'
    """

    text: str
    ids: tuple[int, ...]
    stopped_by: StoppedBy


@dataclass(frozen=True, kw_only=True)
class CandidateScores:
    """How likely a model finds each candidate of a query.

    Args:
        log_probs: Natural logarithm of the probability of all tokens of a candidate, summed.
        num_tokens: Tokens of each candidate, `<EOC>` included where it was scored; divide by it for the mean.

    Example:
        >>> CandidateScores(log_probs=(-0.5, -3.0), num_tokens=(2, 3)).best
        0
    """

    log_probs: tuple[float, ...]
    num_tokens: tuple[int, ...]

    @property
    def best(self) -> int:
        """Number of the likeliest candidate; of the first, where several are."""
        return max(range(len(self.log_probs)), key=lambda number: self.log_probs[number])
