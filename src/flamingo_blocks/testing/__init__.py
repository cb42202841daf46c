"""Conformance suites: what users run on their own language model, vision tower and machine."""

from flamingo_blocks.testing.check_language_model import LanguageModelReport, check_language_model
from flamingo_blocks.testing.check_machine import MachineReport, check_machine
from flamingo_blocks.testing.check_tower import TowerReport, check_tower

__all__ = [
    "LanguageModelReport", "MachineReport", "TowerReport", "check_language_model", "check_machine", "check_tower",
]  # fmt: skip
