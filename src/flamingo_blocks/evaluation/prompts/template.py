"""What one kind of task looks like in a prompt."""

from dataclasses import dataclass
from string import Formatter


@dataclass(frozen=True, kw_only=True)
class PromptTemplate:
    """The text of one kind of task, and what ends an answer to it.

    Args:
        before: What stands between the tag and the answer, without a space at its end: a query's prompt ends here.
            Names in braces are those of `TaskItem.texts`; `{turns}` are the turns before, each by `turn`.
        gap: What stands between that and an answer.
        turn: One question and answer that came before, of a dialogue.
        keywords: An answer ends before the first of them.
        stops: What ends an answer besides.
        delete: Characters that are taken out of an answer.

    Example:
        >>> template = PromptTemplate(before="Question: {question} Answer:", gap=" ", keywords=("Question:",))
        >>> template.fields
        ('question',)
    """

    before: str
    gap: str
    turn: str = ""
    keywords: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    delete: str = ""

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the texts that an item must have."""
        names = (name for _, name, _, _ in Formatter().parse(self.before) if name is not None)
        return tuple(name for name in names if name != "turns")
