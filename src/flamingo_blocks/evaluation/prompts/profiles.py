"""The profiles that published numbers were made by."""

from collections.abc import Mapping

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.prompts.profile import PromptProfile
from flamingo_blocks.evaluation.prompts.template import PromptTemplate

_QUESTION, _SHORT = ("Question:", "Answer:"), ("Question", "Answer", "Short")

PAPER = PromptProfile(
    name="paper",
    templates={
        "caption": PromptTemplate(before="Output:", gap=" ", keywords=("Output:",)),
        "class": PromptTemplate(before="Output:", gap=" ", keywords=("Output:",)),
        "question": PromptTemplate(before="Question: {question} Answer:", gap=" ", keywords=_QUESTION),
        "dialogue": PromptTemplate(
            before="{caption}{turns} Question: {question} Answer:",
            turn=" Question: {question} Answer: {answer}",
            gap=" ",
            keywords=_QUESTION,
        ),
        "memes": PromptTemplate(
            before='is an image with written: "{ocr}" on it. Is it hateful? Answer:', gap=" ", keywords=("Answer:",)
        ),
        "action": PromptTemplate(before="Caption:", gap=" ", keywords=("Caption:",)),
        "continue": PromptTemplate(before="{question}", gap=" ", stops=("\n",)),
    },
    separator="",
    text_shots={"open": 2, "closed": 0},
    num_beams=3,
    length_penalty=0.0,  # not told in the paper: the likeliest of the three beams
    # Not told either: enough for long captions and for texts in images, whose words take several tokens.
    max_new_tokens={
        "caption": 32, "class": 16, "question": 12, "dialogue": 24, "memes": 4, "action": 16, "continue": 15,
    },
    normalise="sum",  # not told
    terminator=True,  # not told: without it, what another candidate begins with is always likelier
)  # fmt: skip
"""The prompts of the paper, with what it does not tell decided here: lengths, length penalty, sums with `<EOC>`."""

OPEN_FLAMINGO = PromptProfile(
    name="open_flamingo",
    templates={
        "caption": PromptTemplate(before="Output:", gap="", keywords=("Output",), delete='"'),
        "class": PromptTemplate(before="Output:", gap="", keywords=("Output",), delete='"'),
        "question": PromptTemplate(
            before="Question:{question} Short answer:", gap="", keywords=_SHORT, stops=(", ",)
        ),
        "dialogue": PromptTemplate(
            before="{caption}{turns} Question:{question} Short answer:",
            turn=" Question:{question} Short answer:{answer}",
            gap="",
            keywords=_SHORT,
            stops=(", ",),
        ),
        "memes": PromptTemplate(
            before="is an image with: '{ocr}' written on it. Is it hateful? Answer:", gap="", keywords=("Answer",)
        ),
        "action": PromptTemplate(before="Caption:", gap="", keywords=("Caption",)),
        "continue": PromptTemplate(before="{question}", gap=" ", stops=("\n",)),
    },
    separator="\n",
    text_shots={"open": 2, "closed": 2},
    num_beams=3,
    length_penalty=0.0,
    max_new_tokens={
        "caption": 20, "class": 20, "question": 5, "dialogue": 5, "memes": 5, "action": 20, "continue": 15,
    },
    normalise="mean",
    terminator=False,
)  # fmt: skip
"""What OpenFlamingo's evaluation does, clean-up included. It has no dialogues, actions and continued texts; these are
written in its manner."""

PROFILES: Mapping[str, PromptProfile] = {profile.name: profile for profile in (PAPER, OPEN_FLAMINGO)}
"""The profiles by name."""


def find_profile(name: str) -> PromptProfile:
    """A profile by its name.

    Args:
        name: `"paper"` or `"open_flamingo"`.

    Raises:
        EvaluationError: If there is none of this name.

    Example:
        >>> find_profile("paper").num_beams
        3
    """
    if name not in PROFILES:
        raise EvaluationError(f"profile is {name!r}, wanted one of {', '.join(map(repr, PROFILES))}")
    return PROFILES[name]
