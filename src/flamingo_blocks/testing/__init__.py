"""Conformance suites: what users run on their own language model and vision tower."""

from flamingo_blocks.testing.check_language_model import LanguageModelReport, check_language_model
from flamingo_blocks.testing.check_tower import TowerReport, check_tower

__all__ = ["LanguageModelReport", "TowerReport", "check_language_model", "check_tower"]
