"""What `--help` prints, and what is said of words that no command takes."""

import shlex

import pytest

from flamingo_blocks._version import __version__
from flamingo_blocks.cli import _parsed, main


def commands_of(parser, above=()):
    """The words of every command."""
    for name in parser.commands_below():
        yield from commands_of(parser.parser_below(name), (*above, name))
    if not parser.commands_below():
        yield list(above)


COMMANDS = tuple(commands_of(_parsed([]).parser))


def help_of(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr()
    assert not printed.err
    return printed.out


def test_the_help_is_a_screen(monkeypatch, capsys):
    """Every command with what it is for, first steps and where the documentation is, on fifty lines of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    text = help_of([], capsys)
    assert all(f"\n  {' '.join(words)} " in text for words in COMMANDS)
    assert "first steps" in text
    assert "docs/reference/command-line.md" in text
    assert text.count("\n") <= 50
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("columns", ["80", "200"])
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_help_fits_and_its_examples_can_be_typed(words, columns, monkeypatch, capsys):
    """No line is wider than the terminal, or than what reads well; each example is words that the command takes; the
    exit statuses stand at the end.
    """
    monkeypatch.setenv("COLUMNS", columns)
    text = help_of(words, capsys)
    assert max(map(len, text.splitlines())) <= min(int(columns), 100)
    examples, _, statuses = text[text.index("\nexample") :].partition("exit status:")
    commands = examples.replace("\\\n", "").splitlines()[2:]
    assert commands
    for command in filter(None, map(str.strip, commands)):
        program, *typed = shlex.split(command.partition(" > ")[0])
        assert program == "flamingo-blocks"
        assert typed[: len(words)] == words
        assert callable(_parsed(typed).run)
    assert [line.split()[0] for line in statuses.splitlines() if line[2:3].isdigit()] == ["0", "1", "2", "130", "143"]


@pytest.mark.parametrize(
    ("words", "near"),
    [(["trian"], "train"), (["eval", "--taks", "coco"], "--tasks"), (["data", "sats"], "stats"),
     (["demo", "--tower", "label"], "labels"), (["train", "recipe.py", "--dryrun"], "--dry-run")],
)  # fmt: skip
def test_the_word_that_was_meant_is_told(words, near, capsys):
    """In the one line of the error, which names the help of that command."""
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert f"did you mean {near};" in printed.err
    assert ": error: " in printed.err
    assert printed.err.count("\n") == 1
    assert not printed.out


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_word_that_a_command_does_not_take_is_status_2(words, capsys):
    """Of every command, and nothing is done."""
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--no-such-option"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_version_is_told(capsys):
    """On one line."""
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"flamingo-blocks {__version__}\n"
