"""A step that belongs to one build."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flamingo_blocks.data.build import Shard, Step


@dataclass(frozen=True)
class StepOfBuild:
    """A step whose configuration tells of which pages and options it is a stage, so that no other build takes it up.

    Args:
        step: Does the work.
        build: What tells the build from others.
    """

    step: Step
    build: str

    @property
    def name(self) -> str:
        """That of the step."""
        return self.step.name

    @property
    def suffix(self) -> str:
        """That of the step."""
        return self.step.suffix

    @property
    def config(self) -> Mapping[str, Any]:
        """That of the step, and of what it is a stage."""
        return {**self.step.config, "build": self.build}

    def read(self, shard: Shard) -> Iterable[Any]:
        """As the step."""
        return self.step.read(shard)

    def process(self, record: Any) -> Any:
        """As the step."""
        return self.step.process(record)

    def write(self, results: Iterable[Any], file: Path) -> None:
        """As the step."""
        self.step.write(results, file)
