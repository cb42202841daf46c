"""All that decides how a task is asked and read, under one name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from flamingo_blocks.data import InterleavedDocument, TextSegment
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.prompts.clean_up import Cleaned, clean_up
from flamingo_blocks.evaluation.prompts.join import REMOVED
from flamingo_blocks.evaluation.prompts.plain_field import END, plain_field
from flamingo_blocks.evaluation.prompts.template import PromptTemplate
from flamingo_blocks.evaluation.task import Answering, Kind


@dataclass(frozen=True, kw_only=True)
class PromptProfile:
    """Templates, decoding, clean-up and the scoring of candidates, which published numbers depend on together.

    Take `PAPER` or `OPEN_FLAMINGO`, or change one by `dataclasses.replace` and give it a name of its own. Texts of
    items are put in one line, and `<image>` and `<EOC>` in them become a space, so that no text forges a tag; how many
    did stands as `"removed_tags"` in the metadata of a prompt that has some.

    Args:
        name: Of the profile, in results.
        templates: For each kind of task.
        separator: What follows the `<EOC>` of a shot.
        text_shots: Shots in text alone where none is asked for, by the way of answering.
        num_beams: Of the search for an answer.
        length_penalty: Power of the length that a beam's log-probability is divided by; 0 compares sums.
        max_new_tokens: Most tokens of an answer, for each kind of task.
        normalise: How candidates are compared: by the `"sum"` of their log-probabilities, or the `"mean"` of a token.
        terminator: Whether the `<EOC>` after a candidate counts as one of its tokens.

    Example:
        >>> from flamingo_blocks.data import ImageSegment
        >>> from flamingo_blocks.evaluation.prompts import PAPER, join, prompt_text
        >>> item = TaskItem(id="1", media=(ImageSegment(url="1.jpg"),), texts={"question": "What is it?"})
        >>> prompt_text(join([PAPER.shot("question", item, "a net"), PAPER.query("question", item)]))
        '<image>Question: What is it? Answer: a net<EOC><image>Question: What is it? Answer:'

    Source:
        Flamingo (arXiv 2204.14198), sections B.1.5 and A.2, figure 8.
    """

    name: str
    templates: Mapping[Kind, PromptTemplate]
    separator: str
    text_shots: Mapping[Answering, int]
    num_beams: int
    length_penalty: float
    max_new_tokens: Mapping[Kind, int]
    normalise: Literal["sum", "mean"]
    terminator: bool

    def shot(self, kind: Kind, item: TaskItem, answer: str, *, with_media: bool = True) -> InterleavedDocument:
        """An item with its answer, closed by `<EOC>`.

        Args:
            kind: Of the task.
            item: What is shown.
            answer: What is shown as right; see `demo_answer`.
            with_media: False leaves out its images and their tags.

        Raises:
            ValueError: If the profile has no template of this kind.
            EvaluationError: If the item lacks a text of the template.
        """
        before, removed = self._before(kind, item)
        shown, more = plain_field(answer)
        text = f"{before}{self.template(kind).gap}{shown}{END}{self.separator}"
        return _document(item, text, removed + more, with_media=with_media)

    def query(self, kind: Kind, item: TaskItem, *, with_media: bool = True) -> InterleavedDocument:
        """An item up to where its answer is due.

        Args:
            kind: Of the task.
            item: What is asked.
            with_media: False leaves out its images and their tags.

        Raises:
            ValueError: If the profile has no template of this kind.
            EvaluationError: If the item lacks a text of the template.
        """
        before, removed = self._before(kind, item)
        return _document(item, before, removed, with_media=with_media)

    def candidate_text(self, kind: Kind, candidate: str) -> str:
        """What a candidate adds to the prompt of a query, without its `<EOC>`.

        Args:
            kind: Of the task.
            candidate: An answer; put in one line like one in a shot.

        Raises:
            ValueError: If the profile has no template of this kind.

        Example:
            >>> from flamingo_blocks.evaluation.prompts import OPEN_FLAMINGO, PAPER
            >>> PAPER.candidate_text("class", "tench"), OPEN_FLAMINGO.candidate_text("class", "tench")
            (' tench', 'tench')
        """
        return self.template(kind).gap + plain_field(candidate)[0]

    def clean(self, kind: Kind, raw: str, *, keep_lists: bool = False) -> Cleaned:
        """The answer in what a model wrote: up to `<EOC>`, or to a keyword of the prompt where that is missed.

        Args:
            kind: Of the task.
            raw: What the model wrote.
            keep_lists: Do not cut at `", "` where the profile does. OpenFlamingo does not on OK-VQA.

        Raises:
            ValueError: If the profile has no template of this kind.

        Example:
            >>> from flamingo_blocks.evaluation.prompts import OPEN_FLAMINGO, PAPER
            >>> PAPER.clean("question", " Short hair, red Question: why?")
            Cleaned(text='Short hair, red', by_keyword=True)
            >>> OPEN_FLAMINGO.clean("question", "Short hair, red")
            Cleaned(text='', by_keyword=True)
        """
        return clean_up(raw, self.template(kind), keep_lists=keep_lists)

    def template(self, kind: Kind) -> PromptTemplate:
        """The template of a kind of task.

        Args:
            kind: The kind.

        Raises:
            ValueError: If there is none.
        """
        if kind not in self.templates:
            raise ValueError(
                f"kind is {kind!r}, and profile {self.name!r} has templates of {', '.join(self.templates)} only"
            )
        return self.templates[kind]

    def _before(self, kind: Kind, item: TaskItem) -> tuple[str, int]:
        """What stands before an answer, and how many strings were removed from it."""
        template = self.template(kind)
        texts, removed = {}, 0
        for name in template.fields:
            if name not in item.texts:
                raise EvaluationError(
                    f"item {item.id!r} has no text {name!r}, which a prompt of kind {kind!r} shows; "
                    f"it has {', '.join(map(repr, item.texts)) or 'none'}"
                )
            texts[name], more = plain_field(item.texts[name])
            removed += more
        turns = ""
        for question, answer in item.turns if template.turn else ():
            (asked, first), (told, second) = plain_field(question), plain_field(answer)
            turns += template.turn.format(question=asked, answer=told)
            removed += first + second
        return template.before.format(**texts, turns=turns).lstrip(), removed


def _document(item: TaskItem, text: str, removed: int, *, with_media: bool) -> InterleavedDocument:
    media = item.media if with_media else ()
    return InterleavedDocument((*media, TextSegment(text)), {REMOVED: removed} if removed else {})
