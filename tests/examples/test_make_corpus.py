"""The script that makes a corpus: what it says of its pages is what is read from them."""

import hashlib
import importlib.util
import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from flamingo_blocks.data import InterleavedDocument, TextSegment
from flamingo_blocks.data.filters import ImageFacts, ImageGate, SingleColour, identify_language
from flamingo_blocks.data.html import extract_page

SCRIPT = Path(__file__).parents[2] / "examples" / "make_corpus.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_corpus", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def corpus(script, tmp_path_factory):
    """A corpus of a hundred pages, and what is said of it."""
    out = tmp_path_factory.mktemp("corpus") / "corpus"
    assert script.main([str(out), "--pages", "100", "--seed", "3"]) == 0
    return out, json.loads((out / "truth.json").read_text(encoding="utf-8"))


def test_pages_are_read_as_the_truth_says(corpus):
    """Every text and every picture, in order, and nothing else: for each site, language and encoding."""
    out, truth = corpus
    assert len(truth["pages"]) == 100
    assert len({page["file"].split("/")[0] for page in truth["pages"]}) == 4
    for page in truth["pages"]:
        document = extract_page((out / "pages" / page["file"]).read_bytes(), url=page["url"])
        assert isinstance(document, InterleavedDocument), page["file"]
        found = [
            {"text": one.text} if isinstance(one, TextSegment) else {"image": one.url, "alt": one.alt}
            for one in document.segments
        ]
        assert found == page["segments"], page["file"]


def test_the_same_seed_gives_the_same_files(script, tmp_path, capsys):
    """And another seed others."""
    for name, seed in (("one", "0"), ("two", "0"), ("three", "1")):
        assert script.main([str(tmp_path / name), "--pages", "12", "--seed", seed]) == 0

    def files(name):
        folder = tmp_path / name
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    assert files("one") == files("two")
    assert files("one") != files("three")
    assert "12 pages" in capsys.readouterr().out


def test_copies_and_languages_are_planted(corpus):
    """Copies are the same bytes at another address; other languages are told from English."""
    out, truth = corpus
    pages = {page["file"]: page for page in truth["pages"]}
    copies = [page for page in pages.values() if page["copy_of"]]
    near = [page for page in pages.values() if page["near_copy_of"]]
    assert (len(copies), len(near)) == (5, 5)
    for page in copies:
        assert (out / "pages" / page["file"]).read_bytes() == (out / "pages" / page["copy_of"]).read_bytes()
    for page in near:
        texts = ["".join(one.get("text", "") for one in pages[name]["segments"]) for name in (page["near_copy_of"],)]
        assert texts[0] != "".join(one.get("text", "") for one in page["segments"])
    foreign = [page for page in pages.values() if page["language"] != "en"]
    assert len(foreign) == 10
    for page in foreign:
        text = " ".join(one["text"] for one in page["segments"] if "text" in one and "Picture" not in one["text"])
        assert identify_language(text)[0].replace("iw", "he") == page["language"]


def test_pictures_are_as_wrong_as_the_truth_says(corpus):
    """Too small, of one colour, broken, or one that was there before; the others are sound."""
    out, truth = corpus
    kinds = {told["kind"] for told in truth["images"].values()}
    assert kinds == {"good", "small", "single_colour", "broken", "duplicate"}
    for name, told in truth["images"].items():
        data = (out / "pages" / "img" / name).read_bytes()
        looked, colour = ImageGate().look(data), SingleColour().look(data)
        if told["kind"] == "small":
            assert looked.reason == "image_small"
        elif told["kind"] in ("single_colour", "broken"):
            assert colour.reason == {"broken": "image_unreadable"}.get(told["kind"], "image_single_colour")
        else:
            assert isinstance(looked, ImageFacts)
            assert colour is None
        if told["kind"] == "duplicate":
            assert data == (out / "pages" / "img" / told["same_as"]).read_bytes()


def samples(path):
    found = {}
    with tarfile.open(path) as tar:
        for member in tar:
            key, _, suffix = member.name.partition(".")
            found.setdefault(key, {})[suffix] = tar.extractfile(member).read()
    return found


def test_pairs_are_as_img2dataset_writes_them(corpus):
    """A picture, its text, and what is known of both."""
    out, truth = corpus
    found = samples(out / "pairs" / "00000.tar")
    assert len(found) == sum(told["kind"] == "good" for told in truth["images"].values())
    for key, members in found.items():
        about = json.loads(members["json"])
        data = members.get("jpg") or members["png"]
        assert about["key"] == key
        assert about["caption"] == members["txt"].decode()
        assert about["sha256"] == hashlib.sha256(data).hexdigest()
        assert (about["width"], about["height"]) == Image.open(io.BytesIO(data)).size


def test_clips_are_as_webvid_has_them(corpus):
    """A clip, its text, and its length."""
    import av

    found = samples(corpus[0] / "clips" / "00000.tar")
    assert len(found) == 8
    for members in found.values():
        about = json.loads(members["json"])
        assert about["name"] == members["txt"].decode()
        with av.open(io.BytesIO(members["mp4"])) as container:
            assert sum(1 for _ in container.decode(video=0)) == round(about["duration"] * 12)


@pytest.mark.parametrize(
    ("words", "message"), [(["."], "there already"), (["new", "--pages", "0"], "wanted 1 or more")]
)
def test_wrong_words_are_told(script, words, message, tmp_path, monkeypatch, capsys):
    """And nothing is written."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        script.main(words)
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
