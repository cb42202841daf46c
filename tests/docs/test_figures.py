"""The figures of the documentation are drawn by `docs/figures`, and can be read by everyone."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import torch

pytest.importorskip("pydantic", reason="the results of the benchmarks are read by it")
pytest.importorskip("PIL", reason="needs the extra vision")
from docs.figures import synthetic
from docs.figures.drawn import ASSETS, drawn
from docs.figures.svg import DARK, LIGHT, Drawing
from flamingo_blocks.vision.image_preprocess import read_rgb

ROOT = Path(__file__).parents[2]
FILES = sorted(ASSETS.rglob("*.svg"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "benchmarks").rglob("*.md"))]
PHONE = 343  # pixels of a page's text on a phone of 375
SMALLEST = 9.9  # pixels of a letter there
SPACE = "{http://www.w3.org/2000/svg}"


def of_file(path):
    return ET.fromstring(path.read_text())  # noqa: S314 (a file of ours)


def test_every_figure_is_what_is_drawn_now():
    """`python -m docs.figures` would change no byte, and no SVG stands there that it does not draw."""
    now = drawn()
    assert set(FILES) == set(now)
    assert [path.name for path, content in now.items() if path.read_text() != content] == []


def test_the_pictures_of_the_synthetic_suite_are_those_of_its_code():
    """Each file has the very pixels that are drawn now."""
    pictures = dict(synthetic.pictures())
    assert {path.name for path in synthetic.FOLDER.iterdir()} == set(pictures)
    for name, pixels in pictures.items():
        assert torch.equal(read_rgb(synthetic.FOLDER / name), pixels)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_figure_is_named_and_described(path):
    """A title and a description, which the drawing names as its own by ids that hold its file's name."""
    root = of_file(path)
    parts = [root.find(f"{SPACE}{tag}") for tag in ("title", "desc")]
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == " ".join(part.get("id") for part in parts)
    assert all(len(part.text) > 5 for part in parts)
    ids = [each.get("id") for each in root.iter() if each.get("id")]
    assert len(ids) == len(set(ids)) and all(each.startswith(f"fig-{path.stem}") for each in ids)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_figure_stands_on_the_page_in_any_mode(path):
    """Colours are variables, told for both modes; nothing covers the ground, comes from elsewhere or ends the block."""
    text = path.read_text()
    root = of_file(path)
    assert "\n\n" not in text
    assert not re.search(r"https?://", text.replace('xmlns="http://www.w3.org/2000/svg"', ""))
    assert not list(root.iter(f"{SPACE}image")) and "script" not in text
    painted = [each.get(key) for each in root.iter() for key in ("fill", "stroke") if each.get(key)]
    assert set(painted) - {"none"} <= {f"var(--{name})" for name in LIGHT}
    for name in set(re.findall(r"var\(--(\w+)\)", text)):
        assert text.count(f"--{name}:{LIGHT[name]}") == 2 and text.count(f"--{name}:{DARK[name]}") == 2
    wide, high = (float(each) for each in root.get("viewBox").split()[2:])
    sizes = [(float(r.get("width")), float(r.get("height"))) for r in root.iter(f"{SPACE}rect")]
    assert all(width < 0.99 * wide or height < 0.7 * high for width, height in sizes)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_words_of_a_figure_can_be_read_on_a_phone(path):
    """No letter is smaller than ten pixels on a page of a phone, and no words begin or end outside the drawing."""
    root = of_file(path)
    wide = float(root.get("viewBox").split()[2])
    for words in root.iter(f"{SPACE}text"):
        size = float(words.get("font-size", root.get("font-size")))
        assert size * min(1, PHONE / wide) >= SMALLEST, words.text
        if words.get("transform"):
            continue
        long = 0.52 * size * len(words.text)  # a little less than the letters of most fonts come to
        left = float(words.get("x")) - {"start": 0, "middle": 0.5, "end": 1}[words.get("text-anchor")] * long
        assert left >= 0 and left + long <= wide, words.text


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_words_and_lines_stand_out_from_what_is_behind_them(colours):
    """Words at 4.5 to 1 as WCAG asks for, also on filled boxes; lines of a chart and of boxes at 3 to 1."""
    fills = ("ground", "frozen", "trained", "data", "item0", "item1", "item2")
    pairs = [("ink", fill, 4.5) for fill in fills] + [("soft", "ground", 4.5), ("line", "ground", 3)]
    pairs += [(line, "ground", 4.5) for line in "abcdef"]
    assert [pair for *pair, least in pairs if contrast(*(colours[each] for each in pair)) < least] == []


def contrast(first, second):
    def light(colour):
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dark, bright = sorted((light(first), light(second)))
    return (bright + 0.05) / (dark + 0.05)


def test_the_curve_has_the_numbers_of_the_tables():
    """What is drawn of the demo stands in the README's table and in the tutorial's, number by number."""
    found = json.loads((ASSETS / "shots.json").read_text())
    rows = ["| shots | " + " | ".join(map(str, found["shots"])) + " |"]
    cells = {name: " | ".join(f"{value:.2f}" for value in values) for name, values in found["curves"].items()}
    readme, tutorial = ((ROOT / name).read_text() for name in ("README.md", "docs/tutorials/few-shot-demo.md"))
    first, *others = cells
    rows += [f"| **{first}** | {cells[first]} |", *(f"| {name} | {cells[name]} |" for name in others)]
    assert "\n".join([rows[0], "|---|---|---|---|---|---|---|", *rows[1:]]) in readme
    assert all(f"| {each} |" in tutorial for each in cells.values())


def test_every_figure_stands_on_a_page():
    """Inside the text, so that it follows the page's mode; the README alone has a picture."""
    shown = {
        ROOT / name for page in PAGES for name in re.findall(r'--8<-- "(docs/assets/[^"]*\.svg)"', page.read_text())
    }
    assert set(FILES) == shown
    linked = re.compile(r"!\[[^]]*\]\([^)]*\.svg\)")
    assert [page.name for page in PAGES if linked.search(page.read_text())] == ["README.md"]


def test_drawing_escapes_what_it_is_told():
    """Tags in words are words, and a part without a colour has none."""
    drawing = Drawing("x", title="a <b>", description="c & d", height=10)
    drawing.text(1, 2, "<image>")
    drawing.rect(0, 0, 1, 1)
    root = ET.fromstring(drawing.render())  # noqa: S314 (drawn here)
    assert root.find(f"{SPACE}title").text == "a <b>"
    assert root.find(f"{SPACE}text").text == "<image>"
    assert root.find(f"{SPACE}rect").get("fill") == "none"
