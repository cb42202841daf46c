"""What a build does to one shard, and what a shard is."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from flamingo_blocks.data.dropped import Dropped


@dataclass(frozen=True)
class Shard:
    """A part of the input that becomes one file of the output.

    A thousand pages is a good size: it is what a worker loses when it is killed, and what a build does not do again
    when it is resumed.

    Args:
        name: Name of the output without its suffix: letters, digits, `.`, `_` and `-`, at most 200.
        source: What the step needs to read it, such as the path of a file; it travels to a worker by pickle.

    Example:
        >>> Shard("00017", source="crawl/00017.jsonl").name
        '00017'
    """

    name: str
    source: Any = None


@dataclass(frozen=True)
class Kept:
    """A result beside what was taken out of it.

    `Step.process` may give it in place of the bare result, when a part of a record is dropped and the record is not:
    a page that stays, without two of its images.

    Args:
        value: The result.
        removed: The parts that were taken out, which are counted by reason apart from whole records.

    Example:
        >>> Kept("a page", removed=(Dropped("image_size"), Dropped("image_size"))).value
        'a page'
    """

    value: Any
    removed: tuple[Dropped, ...] = ()


@runtime_checkable
class Step(Protocol):
    r"""A pure function of one shard: what `run_shards` does to each.

    It travels to workers by pickle, so its class stands in a module that can be imported. The same shard must give the
    same bytes in every process, whatever came before: no clock, no unseeded chance, no order of a set.

    Example:
        >>> from dataclasses import dataclass, field
        >>> @dataclass(frozen=True)
        ... class LongLines:
        ...     name: str = "long_lines"
        ...     suffix: str = ".txt"
        ...     config: Mapping[str, Any] = field(default_factory=lambda: {"least": 3})
        ...
        ...     def read(self, shard):
        ...         yield from shard.source
        ...
        ...     def process(self, line):
        ...         return line if len(line) >= self.config["least"] else Dropped("short", line)
        ...
        ...     def write(self, lines, file):
        ...         file.write_text("\n".join(lines))
        >>> isinstance(LongLines(), Step)
        True
        >>> [LongLines().process(line) for line in LongLines().read(Shard("a", ("a cat", "a")))]
        ['a cat', Dropped(reason='short', detail='a')]
    """

    @property
    def name(self) -> str:
        """What the step is called in the records of a build."""
        ...

    @property
    def suffix(self) -> str:
        """How the files of the output end, such as `".tar"`."""
        ...

    @property
    def config(self) -> Mapping[str, Any]:
        """All that decides the output, as plain values that JSON can hold; a build is resumed under the same alone."""
        ...

    def read(self, shard: Shard, /) -> Iterable[Any]:
        """The records of a shard, always in the same order; an exception is one of the whole shard."""
        ...

    def process(self, record: Any, /) -> Any:
        """What becomes of a record: a result, `Kept`, or `Dropped`.

        This is where a record may raise, crash or hang: it alone is lost.
        """
        ...

    def write(self, results: Iterable[Any], file: Path, /) -> None:
        """Put all results into one file, in their order; they are made while they are asked for."""
        ...
