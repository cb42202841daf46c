"""`flamingo-blocks explain`, and the link in what other commands print."""

import pytest

from flamingo_blocks.cli import main
from flamingo_blocks.cli._own_errors import in_one_line
from flamingo_blocks.errors import FlamingoBlocksError, ShapeError
from tests.test_error_pages import ERROR_PAGES, FAMILIES


def test_the_command_lists_the_pages(capsys):
    """Without a name there is a line a page, with its title and its classes."""
    assert main(["explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(page.stem for page in ERROR_PAGES)
    assert "shapes       Shapes that do not fit (ShapeError)" in lines


@pytest.mark.parametrize("page", ERROR_PAGES, ids=lambda page: page.stem)
def test_the_command_prints_a_page(page, capsys):
    """A page is asked for by its name, or by that of a class."""
    assert main(["explain", page.stem]) == 0
    assert capsys.readouterr().out == page.read_text()
    (name,) = (name for name, member in FAMILIES.items() if member.page == page.stem)
    assert main(["explain", name]) == 0
    assert capsys.readouterr().out == page.read_text()


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("mask", "there is no page 'mask'; did you mean 'masks'?"),
        ("ShapesError", "there is no page 'ShapesError'; did you mean 'ShapeError'?"),
        ("zzz", "there is no page 'zzz'; wanted one of backends, checkpoints, extras, layers, masks, shapes"),
        ("../errors", None),
    ],
)
def test_an_unknown_page_suggests_one(word, told, capsys):
    """A name that is none ends with status 1 and one line that says what was meant."""
    assert main(["explain", word]) == 1
    printed = capsys.readouterr()
    assert not printed.out
    assert printed.err.count("\n") == 1
    if told is not None:
        assert printed.err == f"flamingo-blocks: error: {told}\n"


def test_the_command_line_prints_the_link(capsys):
    """A command that ends with an error of a family names its page, still in one line."""
    assert main(["inspect", "no-such-file.pt"]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.endswith("(more: flamingo-blocks explain checkpoints)\n")


def test_notes_before_the_link_stay():
    """Whatever their order, all but the one that names the page, which is there once."""
    error = ShapeError("it broke")
    error.__notes__ = ["this was sample 5", *error.__notes__]
    assert in_one_line(error) == "it broke (this was sample 5; more: flamingo-blocks explain shapes)"


def test_notes_of_several_lines_stay_out_of_one_line():
    """The trace of another process, which is a note, is not put into the one line; other notes are."""
    error = FlamingoBlocksError("it broke")
    error.add_note("raised in a worker:\nTraceback ...")
    assert in_one_line(error) == "it broke"
    error.add_note("this was sample 5")
    assert in_one_line(error) == "it broke (this was sample 5)"
