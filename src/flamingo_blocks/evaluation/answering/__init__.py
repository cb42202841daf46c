"""Models as a run asks them: a Flamingo, one of transformers, or any other."""

from flamingo_blocks.evaluation.answering.evaluated_model import Answerer, AnswerSettings, EvaluatedModel
from flamingo_blocks.evaluation.answering.flamingo_model import FlamingoModel
from flamingo_blocks.evaluation.answering.hash_of_weights import hash_of_weights
from flamingo_blocks.evaluation.answering.transformers_model import TransformersModel
from flamingo_blocks.evaluation.answering.vision_language_model import VisionLanguageModel
from flamingo_blocks.evaluation.answering.whole_prompts import WholePrompts

__all__ = [
    "AnswerSettings", "Answerer", "EvaluatedModel", "FlamingoModel", "TransformersModel", "VisionLanguageModel",
    "WholePrompts", "hash_of_weights",
]  # fmt: skip
