"""From what a model wrote to its answer."""

from dataclasses import dataclass

from flamingo_blocks.evaluation.prompts.plain_field import END, without_breaks
from flamingo_blocks.evaluation.prompts.template import PromptTemplate


@dataclass(frozen=True)
class Cleaned:
    """An answer, and whether the model went on to a prompt of its own.

    Args:
        text: The answer in one line, without white space at its ends.
        by_keyword: Whether a keyword of the prompt ended it, for want of an `<EOC>` before.

    Example:
        >>> cleaned = clean_up(" a net Question: why?", PromptTemplate(before="", gap="", keywords=("Question:",)))
        >>> cleaned.text, cleaned.by_keyword
        ('a net', True)
    """

    text: str
    by_keyword: bool


def clean_up(raw: str, template: PromptTemplate, *, keep_lists: bool = False) -> Cleaned:
    """Cut an answer out of what a model wrote.

    Args:
        raw: What the model wrote, with `<EOC>` or without.
        template: Says what ends an answer.
        keep_lists: Pass over `template.stops`.

    Example:
        >>> clean_up(" a net Question: why?", PromptTemplate(before="", gap="", keywords=("Question:",)))
        Cleaned(text='a net', by_keyword=True)
    """
    text = raw.partition(END)[0]
    starts = [start for keyword in template.keywords if (start := text.find(keyword)) >= 0]
    text = text[: min(starts)] if starts else text
    text = text.lstrip()  # at the right, it would take the space of a stop such as ", "
    for stop in () if keep_lists else template.stops:
        text = text.partition(stop)[0]
    for character in template.delete:
        text = text.replace(character, "")
    return Cleaned(without_breaks(text).strip(), bool(starts))
