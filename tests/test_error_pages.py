"""Errors name a page, which comes with the package, and every page is about errors that are really raised."""

import ast
import builtins
import concurrent.futures
import copy
import importlib
import multiprocessing
import pickle
import re
import traceback
from collections.abc import Callable
from importlib.metadata import files as files_of_package
from pathlib import Path

import pytest

import flamingo_blocks
from flamingo_blocks import errors
from flamingo_blocks.errors import FlamingoBlocksError, MediaMaskError, RecipeError, ShapeError
from tests.test_docs_code import ERROR_PAGES, ROOT, SOURCES, blocks_of, printed_after

PACKAGE = Path(flamingo_blocks.__file__).parent
CLASSES = {
    name: member
    for name, member in vars(errors).items()
    if isinstance(member, type) and issubclass(member, FlamingoBlocksError)
}
FAMILIES = {name: member for name, member in CLASSES.items() if member.page is not None}
LINK = "More: flamingo-blocks explain {0} (page errors/{0} of the documentation)"


def notes_of(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", []))


def of_package() -> list[type]:
    """Every class of errors of the library, wherever it stands."""
    for path in SOURCES.rglob("*.py"):  # those that stand beside what raises them
        if re.search(r"^class \w+Error\(", path.read_text(), re.MULTILINE) and path.name != "errors.py":
            __import__(".".join(path.relative_to(SOURCES).with_suffix("").parts))
    found, ahead = [], [FlamingoBlocksError]
    while ahead:
        found.append(ahead.pop())
        ahead.extend(found[-1].__subclasses__())
    return [each for each in found if each.__module__.startswith("flamingo_blocks")]


def raised(path: Path) -> list[tuple[int, str, str]]:
    """Lines of a file that raise a class, with its name and the source of the message."""
    return [
        (node.lineno, node.exc.func.id, ast.unparse(node.exc.args[0]) if node.exc.args else "")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name)
    ]


def test_the_six_families_have_pages():
    """The families that people meet are those with a page, and each page belongs to one of them."""
    assert sorted(page.stem for page in ERROR_PAGES) == sorted({member.page for member in FAMILIES.values()})
    assert set(FAMILIES) == {
        "ShapeError",
        "MediaMaskError",
        "BackendRefusedError",
        "LayersNotFoundError",
        "CheckpointError",
        "MissingDependencyError",
    }


@pytest.mark.parametrize("kind", of_package(), ids=lambda kind: kind.__name__)
def test_a_class_with_a_page_has_it_in_the_package_and_on_the_site(kind):
    """The page that a class names is a file of the package, a page of the site, and on the list of the reference."""
    if kind.page is None:
        return
    assert (PACKAGE / "error_pages" / f"{kind.page}.md").read_text().startswith("# ")
    site = (ROOT / "docs" / "errors" / f"{kind.page}.md").read_text()
    body = site.rpartition("---\n\n")[2]  # without what the search is told
    assert body.startswith(f'--8<-- "src/flamingo_blocks/error_pages/{kind.page}.md"\n')
    assert f"errors/{kind.page}.md" in (ROOT / "mkdocs.yml").read_text()
    assert f"(../errors/{kind.page}.md)" in (ROOT / "docs" / "reference" / "errors.md").read_text()


@pytest.mark.parametrize("kind", of_package(), ids=lambda kind: kind.__name__)
def test_every_class_of_errors_is_in_the_reference(kind):
    """`docs/reference/errors.md` has each class that a user may catch, or the way to it."""
    if kind.__name__ == "DamagedError":  # a `CheckpointError` which never leaves the package under its own name
        return
    assert f"{kind.__name__}" in (ROOT / "docs" / "reference" / "errors.md").read_text()


@pytest.mark.parametrize("kind", of_package(), ids=lambda kind: kind.__name__)
def test_the_link_is_a_note_and_the_message_stays_clean(kind):
    """The note has the link, and neither the message nor the arguments do; a class of its own making keeps it too."""
    error = kind.__new__(kind, "the message")
    Exception.__init__(error, "the message")
    assert error.args == ("the message",)
    assert notes_of(error) == ([] if kind.page is None else [LINK.format(kind.page)])


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
@pytest.mark.parametrize("look", [True, False], ids=["looked-at", "not-looked-at"])
def test_a_copy_has_the_notes_once(kind, look):
    """Pickling and copying neither lose a note nor double one, whether anybody has looked at it before or not."""
    error = kind("the message")
    if look:
        error.add_note("this was sample 5")
    expected = [*([] if kind.page is None else [LINK.format(kind.page)]), *(["this was sample 5"] if look else [])]
    pickled = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    for other in (error, pickled, copy.copy(error), copy.deepcopy(error)):
        assert type(other) is kind
        assert str(other) == "the message"
        assert notes_of(other) == expected
    assert notes_of(kind("another")) == expected[: len(expected) - look]  # notes are not shared between errors


def test_raised_again_the_link_stands_once():
    """An error that is raised from another, or once more, is printed with one link, at the end of its message."""
    error = error_of(lambda: _raise_from(RecipeError("outer"), ShapeError("inner")))
    assert "".join(traceback.format_exception(error)).count(LINK.format("shapes")) == 1
    assert notes_of(error) == []
    error = error_of(lambda: _raise_from(error_of(lambda: _raise(ShapeError("x"))), None))
    assert "".join(traceback.format_exception(error)).endswith(f"ShapeError: x\n{LINK.format('shapes')}\n")
    assert notes_of(error) == [LINK.format("shapes")]


def _raise(error: BaseException) -> None:
    raise error


def _raise_from(error: BaseException, cause: BaseException | None) -> None:
    raise error from cause


def error_of(call: Callable[[], object]) -> BaseException:
    """What a call raises."""
    with pytest.raises(Exception) as info:  # noqa: PT011 - the caller looks at it
        call()
    return info.value


def test_an_error_of_another_process_keeps_its_link():
    """Errors come out of a pool of processes with their class, message and link."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        error = error_of(pool.submit(_raise, MediaMaskError("there")).result)
    assert type(error) is MediaMaskError
    assert notes_of(error) == [LINK.format("masks")]


def test_every_raise_site_of_a_family_yields_its_link():
    """Wherever the sources raise a class of a family it is the one of `errors`, and its note has the link."""
    sites = [(path, *site) for path in sorted(SOURCES.rglob("*.py")) for site in raised(path) if site[1] in FAMILIES]
    assert {name for _, _, name, _ in sites} == set(FAMILIES)
    for path, line, name, message in sites:
        module = importlib.import_module(".".join(path.relative_to(SOURCES).with_suffix("").parts))
        assert getattr(module, name, None) is FAMILIES[name], f"{path}:{line}"
        assert message, f"{path}:{line} has no message"
        assert notes_of(getattr(module, name)(message)) == [LINK.format(FAMILIES[name].page)]


def test_a_message_on_a_shape_is_that_of_a_shape_error():
    """No plain `ValueError` of the sources says that something has a wrong shape, nor that tags have no items."""
    words = re.compile(r"\bha(s|ve) shape|media tags .* items|needs a tag")
    plain = [
        f"{path}:{line}"
        for path in sorted(SOURCES.rglob("*.py"))
        for line, name, message in raised(path)
        if name == "ValueError" and words.search(message)
    ]
    assert not plain


def test_nothing_takes_the_link_away():
    """No source but `errors.py` sets the notes of an error, which would drop the link."""
    for path in sorted(SOURCES.rglob("*.py")):
        if path.name != "errors.py":
            assert not re.search(r"__notes__ *=", path.read_text()), path


@pytest.mark.parametrize("page", ERROR_PAGES, ids=lambda page: page.stem)
def test_a_page_provokes_the_errors_it_shows(page):
    """Each section shows a message that its code printed when it caught an error of the family, and nothing by hand.

    An error of Python itself may stand beside them, where the library raises no class of its own.

    That the code prints just that text is held by `test_docs_code.py`.
    """
    shown, says = 0, printed_after(page)
    for above, code in blocks_of(page):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ExceptHandler):
                assert isinstance(node.type, ast.Name)
                assert says[above].strip()
                if not hasattr(builtins, node.type.id):
                    assert CLASSES[node.type.id].page == page.stem
                    shown += 1
    assert shown >= 2


@pytest.mark.parametrize("page", ERROR_PAGES, ids=lambda page: page.stem)
def test_a_page_reads_well_in_a_terminal(page):
    """A page has no link and no markup of the site alone, and no line of prose that is a paragraph."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    assert not re.search(r"\]\(|\]\[|<[a-z]+>|!!!|\{:", text)
    assert all(len(line) <= 240 for line in text.splitlines())


def test_pages_are_files_of_the_wheel():
    """What is built from these sources has the pages: the wheel takes the whole package, and no ignored file is one."""
    assert 'packages = ["src/flamingo_blocks"]' in (ROOT / "pyproject.toml").read_text()
    listed = [str(each) for each in files_of_package("flamingo-blocks") or []]
    if any(each.startswith("flamingo_blocks/") for each in listed):  # installed from a wheel, and not in place
        assert {f"flamingo_blocks/error_pages/{page.name}" for page in ERROR_PAGES} <= set(listed)
