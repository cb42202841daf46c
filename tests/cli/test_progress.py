"""How far a command is, on a terminal and elsewhere."""

import io
import sys

import pytest

from flamingo_blocks.cli import _progress
from flamingo_blocks.cli._progress import ProgressBars, counted


class Screen(io.StringIO):
    """A terminal that keeps what is written to it."""

    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds, which pass when the test says so."""
    now = [100.0]
    monkeypatch.setattr(_progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def terminal(monkeypatch):
    """Makes standard error a terminal: called by the test itself, since pytest changes it before."""

    def make(columns=80):
        monkeypatch.setattr("sys.stderr", Screen())
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.delenv("TERM", raising=False)
        return sys.stderr

    return make


def shown(screen):
    """The lines that stand on the screen, and every state of the last one."""
    *lines, last = screen.getvalue().split("\n")
    return [line.rpartition("\r")[2].removesuffix("\x1b[K").rstrip() for line in lines], last


def test_a_bar_moves_on_a_terminal(terminal, clock):
    """With its share, the time that passed and the time left; each phase leaves a line."""
    screen = terminal()
    with ProgressBars() as bars:
        for phase in ("first", "second"):
            for done in range(5):
                bars(phase, done, 4)
                clock[0] += 30
    lines, rest = shown(screen)
    assert [line.split()[0] for line in lines] == ["first", "second"]
    assert all(line.endswith("100% 4/4, 2:00 min") for line in lines)
    assert "[##################......]  75% 3/4, 1:30 min, 30 s left" in screen.getvalue()
    assert not rest


def test_a_bar_stays_within_its_line_and_has_no_colour(terminal, clock):
    """However narrow the terminal is."""
    screen = terminal(columns=30)
    with ProgressBars() as bars:
        bars("a phase with a long name", 1, 3)
    lines, _ = shown(screen)
    assert max(map(len, lines)) < 30
    assert "\x1b[" not in screen.getvalue().replace("\x1b[K", "")


def test_what_has_no_known_end_is_counted(terminal, clock):
    """With how many a second."""
    screen = terminal()

    def items():
        for _ in range(3000):
            clock[0] += 0.001
            yield 1

    with ProgressBars("documents") as bars:
        assert sum(counted(items(), bars, "reading")) == 3000
    (line,), _ = shown(screen)
    assert line.split(maxsplit=1) == ["reading", "3,000 documents, 1,000 a second, 3 s"]


def test_a_result_stands_in_place_of_the_bar(terminal, clock):
    """Which comes back behind it."""
    screen = terminal()
    with ProgressBars() as bars:
        bars("checking", 1, 2)
        bars.clear()
        assert screen.getvalue().endswith("\r\x1b[K")
    assert shown(screen)[0][0].startswith("checking")


def test_elsewhere_it_is_a_line_a_minute_and_nothing_for_what_is_short(capsys, clock):
    """Nor on standard output ever."""
    with ProgressBars() as bars:
        for done in range(9):
            bars("short", done, 8)
            clock[0] += 1
        for done in range(13):
            bars("long", done, 12)
            clock[0] += 10
    printed = capsys.readouterr()
    assert not printed.out
    assert [line.split()[0] for line in printed.err.splitlines()] == ["long", "long"]
    assert "50% 6/12" in printed.err
    assert "100% 12/12" in printed.err
