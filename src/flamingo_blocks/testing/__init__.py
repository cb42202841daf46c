"""Conformance suites: what users run on their own language model and vision tower."""

from flamingo_blocks.testing.check_language_model import LanguageModelReport, check_language_model

__all__ = ["LanguageModelReport", "check_language_model"]
