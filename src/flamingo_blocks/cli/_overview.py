"""What `flamingo-blocks --help` prints: the commands in the order in which they are needed."""

from collections.abc import Iterable, Iterator

from flamingo_blocks.cli._arguments import OneLineParser
from flamingo_blocks.cli._help import help_width, wrapped

_WAY = {
    "first look": ("doctor", "demo", "explain"),
    "data": ("data",),
    "training": ("train",),
    "use": ("generate", "inspect", "convert"),
    "measure": ("eval",),
}
_COLUMN = 16
_ABOUT = (
    "Flamingo (arXiv 2204.14198) in parts, and what they compose into: layers by which a frozen language model sees "
    "images and clips, the data it learns that from, training, and few-shot evaluation."
)
_FIRST_STEPS = {
    "flamingo-blocks doctor": "does this machine run it?",
    "flamingo-blocks demo --quick": "train a small one in a minute",
    "flamingo-blocks eval --list": "what a model can be asked",
    "flamingo-blocks COMMAND --help": "options, examples, exit statuses",
}
_DOCS = (
    "documentation: the folder docs of the repository, which `nox -s docs -- serve` shows as pages; this command is on "
    "docs/reference/command-line.md"
)


class OverviewParser(OneLineParser):
    """The parser above all commands, whose help is a screen: the commands by what they are for.

    Args:
        said: As `argparse.ArgumentParser` takes them.
    """

    def format_help(self) -> str:
        """The help."""
        width, helps = help_width(), self.commands_below()
        named = [name for names in _WAY.values() for name in names]
        lines = [f"usage: {self.prog} [--help] [--version] COMMAND ...", "", *wrapped(_ABOUT, width)]
        for title, names in {**_WAY, "more": [name for name in helps if name not in named]}.items():
            rows = [line for name in names for line in self._rows(name, helps[name], width)]
            lines += ["", title, *rows] if rows else []
        lines += ["", "first steps", *(f"  {command:32}{why}" for command, why in _FIRST_STEPS.items())]
        return "\n".join([*lines, "", *wrapped(_DOCS, width), ""])

    def _rows(self, name: str, told: str, width: int) -> Iterator[str]:
        """A command, or those below it."""
        below: Iterable[tuple[str, str]] = self.parser_below(name).commands_below().items()
        for command, said in [(f"{name} {word}", said) for word, said in below] or [(name, told)]:
            first, *others = wrapped(said, width - _COLUMN - 2)
            yield f"  {command:{_COLUMN}}{first}"
            yield from (" " * (_COLUMN + 2) + line for line in others)
