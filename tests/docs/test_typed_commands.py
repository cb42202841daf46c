"""The commands of the tutorials, typed as a reader types them."""

import re
import time
from pathlib import Path

import pytest

from tests.docs.typed_pages import ROOT, Shell, Typed, fits, read_page, type_page

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))


def typed(page: Path) -> list[Typed]:
    """The commands of a page."""
    return [step for step in read_page(page.read_text()) if isinstance(step, Typed)]


@pytest.mark.full
@pytest.mark.parametrize("page", [page for page in TUTORIALS if typed(page)], ids=lambda page: page.stem)
def test_a_tutorial_prints_what_it_shows(page, tmp_path):
    """Each command of a tutorial ends well, in an empty folder and in order, and prints what stands below it."""
    (tmp_path / "here").mkdir()
    assert type_page(page.read_text(), tmp_path / "here", tmp_path / "programs") == len(typed(page))


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_every_command_of_a_tutorial_is_typed(page):
    """All that look like a command stand where they are found; a tutorial without commands has code that runs."""
    commands = [step.command for step in typed(page)]
    assert commands or "```python\n" in page.read_text()
    assert sum(line.startswith("$ ") for line in page.read_text().splitlines()) == len(commands)


def test_the_doctor_of_the_first_pages_is_content(tmp_path):
    """What they name to try a machine by is a command that finds nothing wrong with this one."""
    for page in ("docs/index.md", "README.md"):
        assert re.search(r"flamingo-blocks doctor\b", (ROOT / page).read_text()), page
    with Shell(tmp_path, tmp_path / "programs") as shell:
        status, printed = shell.type("flamingo-blocks doctor")
    assert status == 0, printed
    assert printed[0].startswith("flamingo_blocks ")


def runs(process: int) -> bool:
    """Whether a process does anything any more; one that has ended may wait for somebody to ask how."""
    try:
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False


PAGE = """
```python title="words/hello.py"
print("hello", 3.14159)
```

```console
$ python words/hello.py
hello 3...
$ cd words
$ ls missing
...
$ echo $?
2
$ printf 'a\\n\\nb\\n' \\
  | cat
a
...
b
$ sleep 60 &
$ kill $!
```
"""


def type_text(text: str, folder: Path) -> int:
    """A page that is a text."""
    (folder / "here").mkdir()
    return type_page(text, folder / "here", folder / "programs")


def test_files_are_written_and_commands_share_a_shell(tmp_path):
    """A page's files are there when its commands run, which see folder, status and jobs of those before them."""
    assert type_text(PAGE, tmp_path) == 7


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("hello 3...", "hello 4..."), ("\n2\n", "\n3\n"), ("a\n...\nb", "a\nb\n..."), ("$ echo $?\n2\n", "")],
    ids=["line", "status", "order", "unasked status"],
)
def test_a_page_that_shows_something_else_fails(right, wrong, tmp_path):
    """Another line, another status, another order, and a status that no command asks for."""
    assert right in PAGE
    with pytest.raises(AssertionError, match="line "):
        type_text(PAGE.replace(right, wrong), tmp_path)


@pytest.mark.parametrize(
    ("shows", "printed", "fit"),
    [
        ((), [], True),
        ((), ["said"], False),
        (("a ... c",), ["a b c"], True),
        (("a ... c",), ["a b", "c"], False),
        (("...",), [], True),
        (("a", "...", "c"), ["a", "b", "b", "c", ""], True),
        (("a", "...", "c"), ["a", "b", "d"], False),
    ],
)
def test_dots_stand_for_anything(shows, printed, fit):
    """In a line for a part of it, alone for any number of lines; nothing shown is nothing printed."""
    assert fits(shows, printed) is fit


def test_bars_are_not_compared(tmp_path):
    """A bar of progress is drawn over itself many times, and the page does not show it."""
    with Shell(tmp_path, tmp_path / "programs") as shell:
        status, printed = shell.type(
            "printf 'first\\n'; python -c 'import tqdm; [*tqdm.tqdm(range(30), desc=str(7))]'; printf 'last\\n'"
        )
    assert status == 0
    assert fits(("first", "last"), printed)


def test_what_waits_for_ever_is_ended(tmp_path):
    """A command that waits for what does not come is an error, and leaves nothing behind that runs."""
    with (
        Shell(tmp_path, tmp_path / "programs") as shell,
        pytest.raises(AssertionError, match="the shell ended at until"),
    ):
        shell.type("until [ -e nothing ]; do sleep 0.1; done", limit_s=1)
    with Shell(tmp_path, tmp_path / "others") as shell:
        status, (number, *_) = shell.type("sleep 60 & echo $!")
    assert status == 0
    until = time.monotonic() + 20  # that is asked to end at once, and ends when the machine comes to it
    while runs(int(number)) and time.monotonic() < until:
        time.sleep(0.01)
    assert not runs(int(number))
