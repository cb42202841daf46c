"""A step that other processes find by its name."""

from pathlib import Path

from flamingo_blocks.data import Dropped


class Shout:
    """Texts in capitals."""

    name, suffix, config = "shout", ".txt", {}

    def read(self, shard):
        return shard.source

    def process(self, record):
        return record.upper() if record else Dropped("empty")

    def write(self, results, file):
        Path(file).write_text("\n".join(results))
