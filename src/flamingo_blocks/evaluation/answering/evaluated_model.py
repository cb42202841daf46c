"""What a run asks of a model, whichever it is."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from flamingo_blocks.data import InterleavedDocument
from flamingo_blocks.data.documents import MediaSegment
from flamingo_blocks.evaluation.decode import CandidateScores, SharedPrompt, Written
from flamingo_blocks.vision import VisionTower


@dataclass(frozen=True, kw_only=True)
class AnswerSettings:
    """How the answers to one task are made.

    Args:
        num_beams: Beams of open answers; 1 chooses greedily.
        length_penalty: Power of the length that a beam's log-probability is divided by.
        max_new_tokens: Most tokens of an open answer.
        terminator: Whether the end of a shot after a candidate counts as part of it.
        memory_bytes: What a batch may take besides the model.
        max_rows: Most queries at once; as many as fit by default.
        share: Whether prompts may be run once for all of their queries, by models that can do so.

    Example:
        >>> AnswerSettings(num_beams=1, max_new_tokens=5).terminator
        True
    """

    num_beams: int = 3
    length_penalty: float = 0.0
    max_new_tokens: int = 20
    terminator: bool = True
    memory_bytes: int = 2**31
    max_rows: int | None = None
    share: bool | Literal["auto"] = "auto"


@runtime_checkable
class Answerer(Protocol):
    """Answers the queries of one task; `Decoder` does so for a Flamingo, `WholePrompts` for any other model.

    Example:
        >>> from flamingo_blocks.evaluation.answering import WholePrompts
        >>> all(hasattr(WholePrompts, name) for name in ("begin", "write", "score", "tokens", "new_cell"))
        True
    """

    @property
    def max_tokens(self) -> int | None:
        """The longest text that the model reads; None where it does not tell."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """How it was run, as result files have it."""
        ...

    def new_cell(self) -> None:
        """Another number of shots begins."""
        ...

    def tokens(self, document: InterleavedDocument) -> int:
        """Tokens of a whole prompt."""
        ...

    def begin(self, document: InterleavedDocument, *, before: SharedPrompt | None = None) -> SharedPrompt:
        """A prompt of shots that queries follow, or the further shots of a longer one."""
        ...

    def write(self, queries: Sequence[InterleavedDocument], *, prompt: SharedPrompt | None = None) -> Sequence[Written]:
        """What the model writes behind prompt and query."""
        ...

    def score(
        self,
        queries: Sequence[InterleavedDocument],
        candidates: Sequence[Sequence[str]],
        *,
        prompt: SharedPrompt | None = None,
    ) -> Sequence[CandidateScores]:
        """How likely the model finds each candidate behind prompt and query."""
        ...


@runtime_checkable
class EvaluatedModel(Protocol):
    """A model that `evaluate_model` asks: `FlamingoModel`, or a `VisionLanguageModel`.

    Example:
        >>> isinstance(object(), EvaluatedModel)
        False
    """

    @property
    def tower(self) -> VisionTower | None:
        """What tells how alike images are, for shots chosen by RICES."""
        ...

    @property
    def searches(self) -> bool:
        """Whether open answers can be searched for by beams."""
        ...

    @property
    def images_encoded(self) -> int:
        """How many images and clips were encoded so far."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """What result files say of it. `"weights"` and `"processor"` tell it from any that answers otherwise."""
        ...

    def at_rest(self) -> AbstractContextManager[None]:
        """In eval mode for a while."""
        ...

    def closed_gates(self) -> AbstractContextManager[None] | None:
        """Blind for a while, with all else as it was; None for a model that has no gates to close."""
        ...

    def unreadable(self, segments: Iterable[MediaSegment]) -> Mapping[str, str]:
        """Which images and clips cannot be shown, by name, and why."""
        ...

    def blank(self, segment: MediaSegment) -> MediaSegment:
        """An item of the same kind and shape that shows nothing."""
        ...

    def answerer(self, settings: AnswerSettings) -> Answerer:
        """What answers the queries of a task."""
        ...
