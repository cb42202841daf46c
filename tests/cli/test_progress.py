"""How far a command is, on a terminal and elsewhere."""

import io
import os
import sys

import pytest

from flamingo_blocks.cli import _progress
from flamingo_blocks.cli._progress import ProgressBars, counted


class Screen(io.StringIO):
    """A terminal that keeps what is written to it."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Makes standard error a terminal: called by the test itself, since pytest changes it before."""

    def make():
        monkeypatch.setattr("sys.stderr", Screen())
        return sys.stderr

    return make


def shown(screen):
    """The lines that stand on the screen when all is written, and what is behind the last of them."""
    *lines, last = screen.getvalue().split("\n")
    return [line.rpartition("\r")[2].rstrip() for line in lines], last


def test_a_bar_moves_on_a_terminal(terminal):
    """With its share, the time that passed and the time left; each phase leaves a line."""
    screen = terminal()
    with ProgressBars() as bars:
        for phase in ("first", "second"):
            for done in range(5):
                bars(phase, done, 4)
                bars._bar.refresh()
    lines, rest = shown(screen)
    assert [line.split()[0] for line in lines] == ["first", "second"]
    assert all("100%" in line and "4/4" in line for line in lines)
    assert " 75%" in screen.getvalue()
    assert "3/4 [" in screen.getvalue()
    assert not rest


def test_a_bar_stays_within_its_line_and_has_no_colour(monkeypatch):
    """However narrow the terminal is."""
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (25, 40))
    with os.fdopen(theirs, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        with ProgressBars() as bars:
            bars("a phase", 1, 3)
        written = os.read(ours, 10_000).decode()
    os.close(ours)
    assert 0 < max(len(state.rstrip("\n")) for state in written.split("\r")) < 40
    assert "a phase" in written
    assert "\x1b[3" not in written


def test_what_has_no_known_end_is_counted(terminal):
    """With how many a second."""
    screen = terminal()
    with ProgressBars("documents") as bars:
        assert sum(counted([1] * 3000, bars, "reading")) == 3000
    (line,), _ = shown(screen)
    assert line.startswith("reading")
    assert "3000 documents [" in line
    assert "documents/s" in line


def test_a_result_stands_in_place_of_the_bar(terminal):
    """Which comes back behind it."""
    screen = terminal()
    with ProgressBars() as bars:
        bars("checking", 1, 2)
        bars.clear()
        assert screen.getvalue().endswith("\r")
        assert not screen.getvalue().split("\r")[-2].strip()
    assert shown(screen)[0][0].startswith("checking")


def test_elsewhere_it_is_a_line_a_minute_and_nothing_for_what_is_short(capsys, monkeypatch):
    """Nor on standard output ever."""
    with ProgressBars() as bars:
        for done in range(9):
            bars("short", done, 8)
        monkeypatch.setattr(_progress, "_SHORT_S", 0.0)
        monkeypatch.setattr(_progress, "_LINE_S", 1e-9)
        for done in range(13):
            bars("long", done, 12)
    printed = capsys.readouterr()
    assert not printed.out
    assert {line.split()[0] for line in printed.err.splitlines()} == {"long"}
    assert "\r" not in printed.err
    assert " 50%" in printed.err
    assert "12/12" in printed.err.splitlines()[-1]


def test_without_tqdm_a_command_works_and_shows_nothing(capsys, monkeypatch):
    """No command asks for a package for its bar alone."""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with ProgressBars() as bars:
        bars("phase", 1, 2)
    assert not capsys.readouterr().err
