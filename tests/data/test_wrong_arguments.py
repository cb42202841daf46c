"""Slips that are easily made with documents, readers and tokenizers, and what is said of them."""

import io
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from flamingo_blocks.data import (
    ClipSegment,
    Dropped,
    FlamingoExample,
    ImageSegment,
    InterleavedDocument,
    SpecialTokens,
    collate,
)
from flamingo_blocks.data.examples import CaptionExamples, InterleavedExamples
from flamingo_blocks.data.filters import FilterChain, GopherQuality
from flamingo_blocks.data.loading import DataSource, Mixture
from flamingo_blocks.data.pipeline import PageStep, page_step
from flamingo_blocks.data.records import open_documents, to_members
from flamingo_blocks.data.shards import DocumentShards, Sample, write_shard
from flamingo_blocks.data.video import clip_images, decode_clip, encode_clip
from tests.data.video.numbered import clip_file

pytestmark = pytest.mark.usefixtures("without_shape_checks")
SPECIAL = SpecialTokens(media=901, end_of_chunk=902, bos=903, eos=904)


class Letters:
    def encode(self, text):
        return [ord(letter) for letter in text]

    def decode(self, ids):
        return "".join(map(chr, ids))


def png(size=(8, 8)):
    file = io.BytesIO()
    Image.new("RGB", size, "red").save(file, "PNG")
    return file.getvalue()


def captions(**options):
    return CaptionExamples(**({"tokenizer": Letters(), "special": SPECIAL, "preprocess": to_pixels} | options))


def to_pixels(image):
    return torch.zeros(3, 8, 8)


def fails(error):
    def preprocess(_):
        raise error

    return preprocess


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (torch.zeros(3, 16, 16), r"frame 0 is of torch.float32, wanted torch.uint8.*\(frame \* 255\)"),
        (torch.zeros(16, 16, 3, dtype=torch.uint8), r"\[16, 16, 3\], wanted \[3, height, width\]; frame.permute"),
        (torch.zeros(16, 16, dtype=torch.uint8), r"shape \[16, 16\], wanted \[3, height, width\](\n|$)"),
    ],
)
def test_frames_that_no_clip_is_made_of(frame, says):
    """With what makes them right."""
    with pytest.raises(ValueError, match=says):
        encode_clip([frame])
    with pytest.raises(TypeError, match="frame 0 is a list, wanted a tensor"):
        encode_clip([[0]])


def test_what_is_no_row_of_a_batch():
    """A page that was dropped stays out of a batch."""
    rows = [FlamingoExample([1, 2]), Dropped("no_media", "the document has neither image nor clip")]
    with pytest.raises(ValueError, match=r"examples\[1\] is Dropped\(reason='no_media'.*leave it out"):
        collate(rows, pad_id=0)
    with pytest.raises(ValueError, match=r"examples\[0\] is \[1, 2\], wanted a FlamingoExample$"):
        collate([[1, 2]], pad_id=0)


@pytest.mark.parametrize(
    ("documents", "kind"), [("shards", "str"), (Path("shards"), "PosixPath"), ((row for row in "ab"), "generator")]
)
def test_documents_that_have_no_number(documents, kind):
    """A path is not read, and a generator cannot be shuffled."""
    says = f"documents of source 'pages' is a {kind}, wanted documents by number: a list, or DocumentShards"
    with pytest.raises(TypeError, match=says):
        DataSource(name="pages", documents=documents, make=captions(), collate=partial(collate, pad_id=0), batch_size=1)


def test_a_mixture_of_one_source_that_stands_alone():
    """A list is wanted, or a stream."""
    source = DataSource(name="pages", documents=[1], make=captions(), collate=partial(collate, pad_id=0), batch_size=1)
    with pytest.raises(TypeError, match="sources is a DataSource, wanted a list of sources; DataStream"):
        Mixture(source, seed=0)


def test_a_state_that_is_none_is_told_in_few_words():
    """Whoever gives the state of a model does not see its numbers."""
    source = DataSource(name="pages", documents=[1], make=captions(), collate=partial(collate, pad_id=0), batch_size=1)
    with pytest.raises(ValueError, match="wanted what `state_dict` of a stream or mixture gave") as told:
        Mixture([source], seed=0).load_state_dict({f"layer.{k}": torch.zeros(100) for k in range(100)})
    assert len(str(told.value)) < 400


@pytest.mark.parametrize("error", (ZeroDivisionError("a slip"), TypeError("a slip"), AttributeError("a slip")))
def test_a_mistake_of_preprocess_is_no_broken_image(error):
    """Training would go on without a single image, and say that all of them are broken."""
    document = InterleavedDocument.from_parts([png(), "a square"])
    with pytest.raises(type(error), match="a slip"):
        captions(preprocess=fails(error))(document, key=0)
    with pytest.raises(type(error), match="a slip"):
        InterleavedExamples(tokenizer=Letters(), special=SPECIAL, preprocess=fails(error))(document, key=0)


@pytest.mark.parametrize("error", (SyntaxError("broken PNG"), IndexError("no such byte"), ValueError("no image")))
def test_what_decoders_raise_of_a_broken_file_is_a_reason(error):
    """Whatever it is."""
    document = InterleavedDocument.from_parts([png()[:40], "a square"])
    found = captions(preprocess=fails(error))(document, key=0)
    assert isinstance(found, Dropped)
    assert found.reason == "image_unreadable"


def test_the_file_of_a_clip_asks_for_its_reader():
    """Its bytes are no frames."""
    document = InterleavedDocument.from_parts([ClipSegment(data=clip_file(8)), "a clip"])
    with pytest.raises(ValueError, match=r"clip_images is None; pass clip_images=functools.partial"):
        captions()(document, key=0)


@pytest.mark.parametrize("place", ({"start_s": 0.0}, {"place": 0.0}))
def test_a_reader_of_one_part_of_a_clip_reads_that_part(place):
    """What a `partial` says is not drawn."""
    document = InterleavedDocument.from_parts([ClipSegment(data=clip_file(60)), "a clip"])
    seen = []

    def preprocess(image):
        seen.append(int(image.sum()))
        return torch.zeros(3, 8, 8)

    read = partial(clip_images, fps=10.0, count=2, **place)
    for key in (0, 1):
        captions(preprocess=preprocess, clip_images=read)(document, key=key)
    assert len(seen) == 4
    assert seen[:2] == seen[2:]


def test_a_clip_may_be_named_by_a_text(tmp_path):
    """As an image may."""
    path = tmp_path / "a.mp4"
    path.write_bytes(clip_file(8))
    assert torch.equal(decode_clip(str(path)).frames, decode_clip(path).frames)
    assert len(clip_images(ClipSegment(data=str(path)), fps=5.0, count=2)) == 2


@pytest.mark.parametrize("tokenizer", (None, "gpt2", len, object()))
def test_what_is_no_tokenizer_is_refused_at_once(tokenizer):
    """Before any text is lost in it."""
    with pytest.raises(ValueError, match=r"tokenizer is a .*, wanted one of transformers, or an object with encode"):
        captions(tokenizer=tokenizer)


@pytest.mark.parametrize("media", ("<image>", (), ("a",), None))
def test_a_tag_is_told_by_its_ids(media):
    """Not by its string."""
    with pytest.raises(ValueError, match="wanted the id of the tag, or a tuple of ids"):
        SpecialTokens(media=media)


@pytest.mark.parametrize("parts", ("a cat", b"a cat"))
def test_one_text_is_no_list_of_parts(parts):
    """It would become one segment a letter."""
    with pytest.raises(ValueError, match="wanted a list; give"):
        InterleavedDocument.from_parts(parts)


@pytest.mark.parametrize("part", (1, 0.5, None, {"image": "a.jpg"}))
def test_what_can_be_no_image_is_no_part(part):
    """It would be one until somebody looks."""
    with pytest.raises(ValueError, match="a part is .*, wanted a string, an image"):
        InterleavedDocument.from_parts(["a", part])


@pytest.mark.parametrize("kind", (ImageSegment, ClipSegment))
def test_bytes_are_no_address(kind):
    """Who gives them in its place is told where they go."""
    with pytest.raises(ValueError, match=f"url of {kind.__name__} is 3 bytes, wanted a text; .* as data="):
        kind(b"...")


def test_a_filter_alone_is_no_chain_and_a_path_no_fetcher():
    """Each page would be an error, and the build go on."""
    with pytest.raises(ValueError, match=r"before is a GopherQuality, wanted a FilterChain; give FilterChain"):
        PageStep(before=GopherQuality())
    with pytest.raises(ValueError, match="fetcher is a str, wanted one such as open_images"):
        PageStep(before=FilterChain([]), fetcher="pages")


@pytest.mark.parametrize(
    ("options", "says"),
    (({"language": "english"}, "language is 'english', wanted its code"), ({"min_confidence": 80}, "wanted 0 to 1")),
)
def test_options_that_no_page_meets_are_refused(options, says):
    """They would drop every page."""
    with pytest.raises(ValueError, match=says):
        page_step(**options)


def test_paths_without_shards_say_what_is_there(tmp_path):
    """Nothing, a folder among files, or shards one folder further."""
    (tmp_path / "shards").mkdir()
    write_shard(tmp_path / "shards" / "0.tar", [Sample("a", to_members(InterleavedDocument.from_parts(["a"])))])
    for read in (DocumentShards, lambda path: list(open_documents(path))):
        with pytest.raises(ValueError, match=r"there are shards in '.*shards'"):
            read(tmp_path)
    with pytest.raises(ValueError, match="nope.*where there is nothing"):
        open_documents(tmp_path / "nope")
    with pytest.raises(ValueError, match="nope.tar', where there is no file"):
        DocumentShards(tmp_path / "nope.tar")
    with pytest.raises(ValueError, match="a folder among files"):
        DocumentShards([tmp_path])
