"""The reference Flamingo, its builders, and the processor that makes its batches."""

from flamingo_blocks.models.builders import (
    PAPER_SIZES,
    PaperSize,
    build_paper_flamingo,
    build_tiny_flamingo,
    every_layer,
)
from flamingo_blocks.models.compile_regions import CompiledRegions, compile_regions
from flamingo_blocks.models.flamingo import Flamingo, FlamingoOutput
from flamingo_blocks.models.generation import Scores
from flamingo_blocks.models.paper_language_model import PaperLanguageModel
from flamingo_blocks.models.processor import FlamingoProcessor
from flamingo_blocks.models.prompt import PromptState

__all__ = [
    "PAPER_SIZES", "CompiledRegions", "Flamingo", "FlamingoOutput", "FlamingoProcessor", "PaperLanguageModel",
    "PaperSize", "PromptState", "Scores", "build_paper_flamingo", "build_tiny_flamingo", "compile_regions",
    "every_layer",
]  # fmt: skip
