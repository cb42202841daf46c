"""Errors name a page, which comes with the package, and every page is about errors that are really raised."""

import ast
import concurrent.futures
import copy
import multiprocessing
import pickle
import re
import traceback
from importlib.metadata import files as files_of_package
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

import flamingo_blocks
from flamingo_blocks import (
    Flamingo,
    GatedCrossAttentionBlock,
    MediaLayout,
    PerceiverResampler,
    attach,
    errors,
    media_attention,
)
from flamingo_blocks.cli import main
from flamingo_blocks.cli._own_errors import in_one_line
from flamingo_blocks.data import FlamingoExample, InterleavedDocument, collate
from flamingo_blocks.data.video import encode_clip
from flamingo_blocks.errors import (
    BackendRefusedError,
    CheckpointError,
    FlamingoBlocksError,
    LayersNotFoundError,
    MediaMaskError,
    MissingDependencyError,
    RecipeError,
    ShapeError,
)
from flamingo_blocks.interop import open_checkpoint
from flamingo_blocks.models import PaperLanguageModel
from flamingo_blocks.ops import linear_cross_entropy
from flamingo_blocks.training.contrast import contrastive_loss
from flamingo_blocks.vision import CallableTower, ImagePreprocess, encode_frames
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


def raised(path: Path) -> list[tuple[int, str]]:
    """Lines of a file that raise one of our classes, with its name."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            found.append((node.lineno, node.exc.func.id))
    return found


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
    assert site.startswith(f'--8<-- "src/flamingo_blocks/error_pages/{kind.page}.md"\n')
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
    for other in (error, pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(other) is kind
        assert str(other) == "the message"
        assert notes_of(other) == expected
    assert notes_of(kind("another")) == expected[: len(expected) - look]  # notes are not shared between errors


def test_raised_again_the_link_stands_once():
    """An error that is raised from another, raised again and printed has its own link, once, at the end."""
    try:
        try:
            raise ShapeError("inner")
        except ShapeError as error:
            raise RecipeError(str(error)) from error
    except RecipeError as error:
        told = "".join(traceback.format_exception(error))
    assert told.count(LINK.format("shapes")) == 1
    assert notes_of(error_of(lambda: _again(ShapeError("x")))) == [LINK.format("shapes")]
    assert "".join(traceback.format_exception(ShapeError("x"))).endswith(LINK.format("shapes") + "\n")


def _again(error: Exception) -> None:
    try:
        raise error
    except Exception:
        raise


def error_of(call) -> BaseException:
    """What a call raises."""
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def _raise_in_process() -> None:
    raise MediaMaskError("in another process")


def test_an_error_of_another_process_keeps_its_link():
    """Errors come out of a pool of processes with their class, message and link."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        error = error_of(pool.submit(_raise_in_process).result)
    assert type(error) is MediaMaskError
    assert notes_of(error) == [LINK.format("masks")]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_raised_by_the_sources(name):
    """There are raise sites of each family, each with a message of its own."""
    sites = [(path, line) for path in SOURCES.rglob("*.py") for line, found in raised(path) if found == name]
    assert sites


@pytest.mark.parametrize("path", sorted(SOURCES.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCES)))
def test_raise_sites_use_the_class_and_no_making_of_their_own(path):
    """Our classes are raised as they are, and subclasses have no `__notes__` of their own: each site yields the link."""
    for line, name in raised(path):
        if name in FAMILIES:
            error = FAMILIES[name]("the message of this site")
            assert notes_of(error) == [LINK.format(FAMILIES[name].page)], f"{path}:{line}"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assign) and path.name != "errors.py":
            names = [target.attr for target in node.targets if isinstance(target, ast.Attribute)]
            assert "__notes__" not in names, f"{path}:{node.lineno} takes the link away"


IMAGE = torch.tensor([[True, False, True]])
FLAT = torch.zeros(1, 3, 32)


def a_block() -> GatedCrossAttentionBlock:
    return GatedCrossAttentionBlock(dim=32, vision_dim=16, num_heads=2)


def a_flamingo() -> Flamingo:
    lm = PaperLanguageModel(vocab_size=32, dim=32, depth=1, num_heads=2)
    return Flamingo(lm=lm, blocks={0: a_block()}, media_token_id=32, num_new_tokens=1)


def a_resampler() -> PerceiverResampler:
    return PerceiverResampler(vision_dim=8, dim=16, num_latents=2, depth=1, num_heads=1, head_dim=8)


def a_tower() -> CallableTower:
    return CallableTower(torch.nn.Conv2d(3, 8, 4, stride=4), image_size=8)


def example(**changed) -> FlamingoExample:
    values = {"input_ids": (32, 5), "tags": (0,), "features": (torch.zeros(1, 2, 8),), **changed}
    return FlamingoExample(**values)


def hidden_parquet() -> object:
    from flamingo_blocks.data.records import read_documents_parquet

    with patch.dict("sys.modules", {"pyarrow": None}):
        return list(read_documents_parquet("documents.parquet"))


PROVOKED = {
    "media_attention, heads": (
        ShapeError,
        lambda: media_attention(
            torch.zeros(1, 3, 3, 8), *[torch.zeros(2, 4, 2, 8)] * 2, MediaLayout.from_tokens(IMAGE)
        ),
    ),
    "media_attention, text": (
        ShapeError,
        lambda: media_attention(
            torch.zeros(1, 4, 2, 8), *[torch.zeros(2, 4, 2, 8)] * 2, MediaLayout.from_tokens(IMAGE)
        ),
    ),
    "media_attention, pool": (
        MediaMaskError,
        lambda: media_attention(
            torch.zeros(1, 3, 2, 8), *[torch.zeros(1, 4, 2, 8)] * 2, MediaLayout.from_tokens(IMAGE)
        ),
    ),
    "media_attention, backend": (
        BackendRefusedError,
        lambda: media_attention(
            torch.zeros(1, 3, 2, 8), *[torch.zeros(2, 4, 2, 8)] * 2, MediaLayout.from_tokens(IMAGE), backend="one_token"
        ),
    ),
    "MediaLayout.from_tokens, kind": (MediaMaskError, lambda: MediaLayout.from_tokens(IMAGE.long())),
    "MediaLayout.from_tokens, direction": (
        MediaMaskError,
        lambda: MediaLayout.from_tokens(IMAGE, scope="all", direction="next"),
    ),
    "MediaLayout.from_tokens, ids": (
        MediaMaskError,
        lambda: MediaLayout.from_tokens(IMAGE, item_ids=torch.tensor([[0]])),
    ),
    "MediaLayout.from_grid": (MediaMaskError, lambda: MediaLayout.from_grid(IMAGE, num_media=1)),
    "linear_cross_entropy": (
        ShapeError,
        lambda: linear_cross_entropy(torch.zeros(1, 3, 8), torch.zeros(5, 9), torch.zeros(1, 3, dtype=torch.long)),
    ),
    "GatedCrossAttentionBlock, heads": (ShapeError, lambda: GatedCrossAttentionBlock(32, vision_dim=16, num_heads=5)),
    "GatedCrossAttentionBlock, media": (
        ShapeError,
        lambda: a_block()(FLAT, torch.zeros(2, 4, 8), MediaLayout.from_tokens(IMAGE)),
    ),
    "PerceiverResampler": (ShapeError, lambda: a_resampler()(torch.zeros(1, 1, 4, 9))),
    "attach": (LayersNotFoundError, lambda: attach(torch.nn.Linear(2, 2), {0: a_block()})),
    "Flamingo, parts": (
        ShapeError,
        lambda: Flamingo(
            lm=PaperLanguageModel(vocab_size=32, dim=16, depth=1, num_heads=2),
            blocks={0: a_block()},
            media_token_id=32,
            num_new_tokens=1,
        ),
    ),
    "Flamingo, tags": (MediaMaskError, lambda: a_flamingo()(torch.tensor([[32, 5]]), media=torch.zeros(2, 4, 16))),
    "Flamingo, labels": (
        ShapeError,
        lambda: a_flamingo()(torch.tensor([[1, 5]]), labels=torch.tensor([[1]]), media=torch.zeros(0, 4, 16)),
    ),
    "Flamingo.generate, pads": (
        MediaMaskError,
        lambda: a_flamingo().generate(
            torch.tensor([[1, 5]]), attention_mask=torch.tensor([[1, 0]]), media=torch.zeros(0, 4, 16)
        ),
    ),
    "Flamingo.from_pretrained": (CheckpointError, lambda: Flamingo.from_pretrained("no-such-folder")),
    "open_checkpoint": (CheckpointError, lambda: open_checkpoint("no-such-file.pt")),
    "encode_frames": (ShapeError, lambda: encode_frames(a_tower(), torch.zeros(1, 3, 8, 8))),
    "CallableTower": (ShapeError, lambda: a_tower()(torch.zeros(1, 3, 12, 12))),
    "CallableTower, dim": (
        ShapeError,
        lambda: CallableTower(torch.nn.Conv2d(3, 8, 4, stride=4), image_size=8, dim=9),
    ),
    "ImagePreprocess": (ShapeError, lambda: ImagePreprocess(8)(torch.zeros(2, 8, 8))),
    "collate, tags": (MediaMaskError, lambda: collate([example(tags=(0, 1))], pad_id=0)),
    "collate, items": (
        ShapeError,
        lambda: collate([example(), example(features=(torch.zeros(1, 2, 9),))], pad_id=0),
    ),
    "InterleavedDocument": (MediaMaskError, lambda: InterleavedDocument.from_tagged("<image>", [])),
    "encode_clip": (ShapeError, lambda: encode_clip([torch.zeros(8, 8, 3, dtype=torch.uint8)], [0.0])),
    "contrastive_loss": (
        ShapeError,
        lambda: contrastive_loss(torch.zeros(2, 4), torch.zeros(3, 4), log_scale=torch.tensor(0.0)),
    ),
    "read_documents_parquet": (MissingDependencyError, hidden_parquet),
}


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(("kind", "call"), PROVOKED.values(), ids=PROVOKED)
def test_a_public_call_that_goes_wrong_names_its_page(kind, call):
    """A wrong call of each public entry point raises the class of its family, with the link in its traceback."""
    error = error_of(call)
    assert type(error) is kind, f"{type(error).__name__}: {error}"
    assert "flamingo-blocks explain" not in str(error)
    assert "".join(traceback.format_exception(error)).endswith(LINK.format(kind.page) + "\n")


@pytest.mark.parametrize("page", ERROR_PAGES, ids=lambda page: page.stem)
def test_a_page_provokes_the_errors_it_shows(page):
    """Each section shows a message that its code printed when it caught an error of the family, and nothing by hand.

    That the code prints just that text is held by `test_docs_code.py`.
    """
    shown, says = 0, printed_after(page)
    for above, code in blocks_of(page):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ExceptHandler):
                assert isinstance(node.type, ast.Name)
                assert CLASSES[node.type.id].page == page.stem
                assert says[above].strip()
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
        assert printed.err == f"flamingo-blocks: {told}\n"


def test_the_command_line_prints_the_link(capsys):
    """A command that ends with an error of a family names its page, still in one line."""
    assert main(["inspect", "no-such-file.pt"]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.endswith("(more: flamingo-blocks explain checkpoints)\n")


def test_notes_of_several_lines_stay_out_of_one_line():
    """The trace of another process, which is a note, is not put into the one line; other notes are."""
    error = FlamingoBlocksError("it broke")
    error.add_note("raised in a worker:\nTraceback ...")
    assert in_one_line(error) == "it broke"
    error.add_note("this was sample 5")
    assert in_one_line(error) == "it broke (this was sample 5)"
