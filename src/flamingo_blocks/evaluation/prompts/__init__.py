"""How a task is asked: what stands around its items, and what is left of what a model writes."""

from flamingo_blocks.evaluation.prompts.clean_up import Cleaned
from flamingo_blocks.evaluation.prompts.demo_answer import demo_answer
from flamingo_blocks.evaluation.prompts.join import join, prompt_text
from flamingo_blocks.evaluation.prompts.profile import PromptProfile
from flamingo_blocks.evaluation.prompts.profiles import OPEN_FLAMINGO, PAPER, PROFILES, find_profile
from flamingo_blocks.evaluation.prompts.template import PromptTemplate

__all__ = [
    "OPEN_FLAMINGO",
    "PAPER",
    "PROFILES",
    "Cleaned",
    "PromptProfile",
    "PromptTemplate",
    "demo_answer",
    "find_profile",
    "join",
    "prompt_text",
]
