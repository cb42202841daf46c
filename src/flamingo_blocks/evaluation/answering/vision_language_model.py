"""What another model than ours has to be able to do to be measured."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from flamingo_blocks.data import InterleavedDocument
from flamingo_blocks.data.documents import MediaSegment
from flamingo_blocks.evaluation.answering.evaluated_model import AnswerSettings
from flamingo_blocks.evaluation.answering.pictures import grey, with_pictures
from flamingo_blocks.evaluation.answering.whole_prompts import WholePrompts
from flamingo_blocks.evaluation.decode import CandidateScores, UnreadableMediaError, Written
from flamingo_blocks.vision import VisionTower


class VisionLanguageModel(ABC):
    """Any model that reads images between text, made fit to be asked by `evaluate_model`.

    Write `identity`, `write` and `score`; all else has a default. Prompts come whole, shots and query, with images as
    pictures of pillow in RGB and clips as tuples of them, and with `end_of_shot` where Flamingo has `<EOC>`. Queries of
    one batch size are answered as those of any other only if `write` and `score` see to that.

    Example:
        >>> class Parrot(VisionLanguageModel):
        ...     identity = "parrot 1"
        ...
        ...     def write(self, prompts, *, num_beams, length_penalty, max_new_tokens):
        ...         return [Written(text=" a cat", ids=(), stopped_by="length") for _ in prompts]
        ...
        ...     def score(self, prompts, candidates):
        ...         likely = [tuple(-float(len(text)) for text in texts) for texts in candidates]
        ...         lengths = [tuple(map(len, texts)) for texts in candidates]
        ...         return [CandidateScores(log_probs=p, num_tokens=n) for p, n in zip(likely, lengths)]
        >>> Parrot().answerer(AnswerSettings()).write([InterleavedDocument.from_parts(["Output:"])])[0].text
        ' a cat'
    """

    end_of_shot: str = "\n"
    max_tokens: int | None = None
    tower: VisionTower | None = None
    searches: bool = True

    @property
    @abstractmethod
    def identity(self) -> str:
        """What tells it from any model that answers otherwise: a name with its revision, or a hash of its weights.

        A folder of answers is gone on with by a model of the same identity alone.
        """

    @abstractmethod
    def write(
        self, prompts: Sequence[InterleavedDocument], *, num_beams: int, length_penalty: float, max_new_tokens: int
    ) -> Sequence[Written]:
        """Answer prompts in free text.

        Args:
            prompts: Shots and query each.
            num_beams: Beams; 1 chooses greedily.
            length_penalty: Power of the length that a beam's log-probability is divided by.
            max_new_tokens: Most tokens of an answer.

        Returns:
            One answer a prompt, in order. What stands behind `end_of_shot` is cut off.
        """

    @abstractmethod
    def score(
        self, prompts: Sequence[InterleavedDocument], candidates: Sequence[Sequence[str]]
    ) -> Sequence[CandidateScores]:
        """Tell how likely candidates follow prompts.

        Args:
            prompts: Shots and query each.
            candidates: For each prompt the texts to be scored as they follow it, `end_of_shot` included.

        Returns:
            For each prompt the log-probability and the number of tokens of each candidate, in order.
        """

    def tokens(self, prompt: InterleavedDocument) -> int:
        """Tokens of a prompt; asked where `max_tokens` is given.

        Args:
            prompt: As in `write`.
        """
        raise NotImplementedError(f"{type(self).__name__} has max_tokens={self.max_tokens}; write `tokens` as well")

    def describe(self) -> dict[str, Any]:
        """What result files say of it; what is added here stands there too."""
        return {"name": type(self).__name__, "weights": self.identity, "processor": repr(self.end_of_shot)}

    @property
    def images_encoded(self) -> int:
        """Not counted: it encodes its images itself, each time that they are shown."""
        return 0

    def at_rest(self) -> AbstractContextManager[None]:
        """In eval mode for a while; as it is, unless this is overridden."""
        return nullcontext()

    def closed_gates(self) -> AbstractContextManager[None] | None:
        """None: there are no gates, and the control of that name is left out."""
        return None

    def unreadable(self, segments: Iterable[MediaSegment]) -> dict[str, str]:
        """Which images and clips cannot be read, by name, and why.

        Args:
            segments: Images and clips.
        """
        told: dict[str, str] = {}
        for segment in segments:
            try:
                with_pictures(segment)
            except UnreadableMediaError as error:
                name, _, reason = str(error).partition(" cannot be read: ")
                told[name] = reason
        return told

    def blank(self, segment: MediaSegment) -> MediaSegment:
        """An item of the same kind and size in grey.

        Args:
            segment: An image or clip.
        """
        return grey(segment)

    def answerer(self, settings: AnswerSettings) -> WholePrompts:
        """What asks it the queries of a task.

        Args:
            settings: How answers are made; what is said there of memory and sharing is for models of ours.
        """
        return WholePrompts(self, settings)
