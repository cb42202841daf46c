"""Examples of pages: a window's tokens, labels and images, decided by the key alone."""

import pickle
import struct
import zlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import (
    ClipSegment,
    Dropped,
    FlamingoExample,
    ImageSegment,
    InterleavedDocument,
    SpecialTokens,
    collate,
    document_labels,
)
from flamingo_blocks.data.examples import (
    AugmentImages,
    AugmentText,
    InterleavedExamples,
    KeyedDraws,
    cut_document,
    draw_window,
)
from flamingo_blocks.vision import ImagePreprocess, NaFlexPreprocess
from tests.data.examples.pages import (
    BOS,
    EOS,
    LETTERS,
    PAPER,
    TAG,
    file_of,
    numbers_of,
    page_of,
    parts,
    pixels_of,
    specials,
    tokens_of,
)

keys = st.integers(0, 1000)


def maker(special=PAPER, **options):
    return InterleavedExamples(**{"tokenizer": LETTERS, "special": special, "preprocess": pixels_of} | options)


@given(parts, specials, keys, st.integers(3, 30), st.none() | st.integers(1, 3), st.booleans())
def test_an_example_is_a_window_with_its_labels_and_items(page, special, key, length, max_media, outside):
    """Ids, tags and items are those of a window; labels are the document's, cut where the window was."""
    example = maker(special, length=length, max_media=max_media, mask_outside_chunks=outside)(page_of(page), key=key)
    if not page_of(page).merged().segments:
        assert example == Dropped("no_text", "the document is empty")
        return
    whole = tokens_of(page, special)
    draw = KeyedDraws(key).uniform("window")
    window = draw_window(whole, length=length, special=special, draw=draw, max_media=max_media)
    part = cut_document(whole, window, special=special)
    labels = document_labels(whole, special=special, mask_between_chunks=outside, mask_before_first_media=outside)
    assert example.input_ids == part.ids
    assert example.tags == part.tags
    assert tuple(example.labels) == labels[window.start : window.stop]
    first = sum(tag < window.start for tag in whole.tags)
    assert numbers_of(example.pixels) == list(range(first, first + len(part.tags)))
    assert [len(item) for item in example.pixels] == [2 if isinstance(m, ClipSegment) else 1 for m in part.media]


@given(parts, keys, st.booleans())
def test_a_key_decides_everything(page, key, augmented):
    """The same document and key give the same example, in a maker that was pickled to a worker too."""
    options = {"augment_text": AugmentText(first_letter=0.5, spaces=0.5), "length": 12} if augmented else {}
    make = maker(**options)
    once, again = (
        make(page_of(page), key=(1, key, "a")),
        pickle.loads(pickle.dumps(make))(page_of(page), key=(1, key, "a")),  # noqa: S301 - our own
    )
    if isinstance(once, Dropped):
        assert once == again
        return
    for name in ("input_ids", "tags", "labels", "direction", "source"):
        assert getattr(once, name) == getattr(again, name)
    assert all(torch.equal(one, two) for one, two in zip(once.pixels, again.pixels, strict=True))


def a_page(*, images=2, text="a cat on a wall."):
    return page_of(["<image>", text] * images)


def test_half_of_the_pages_look_ahead():
    """`p_next` is one draw for each page; 0 and 1 are never and always."""
    page = a_page()
    for p_next in (0.0, 0.5, 1.0):
        ahead = [maker(p_next=p_next)(page, key=key).direction == "next" for key in range(100)]
        assert abs(sum(ahead) - 100 * p_next) <= 5 * 5 * (p_next == 0.5)


def test_the_direction_does_not_tell_the_window():
    """Windows of the first and of the second half of a page look ahead alike."""
    page = a_page(images=6)
    draws = [(KeyedDraws(key).uniform("window"), maker(length=8)(page, key=key).direction) for key in range(40)]
    for half in (True, False):
        assert {direction for window, direction in draws if (window < 0.5) == half} == {"previous", "next"}


def test_a_batch_mixes_both_directions():
    """In a collated batch each page's text sees the item before it or the one behind it, as the page was drawn."""
    page = page_of(["a", "<image>", "b", "<image>", "c"])
    examples = [maker()(page, key=key) for key in range(8)]
    assert {example.direction for example in examples} == {"previous", "next"}
    batch = collate(examples, pad_id=0)
    for row, example in enumerate(examples):
        start = row * 2
        sees = [ids[0] if ids else None for ids in _seen(batch, row)]
        before_tag, after_last = sees[1], sees[-1]
        assert (before_tag, after_last) == ((start, None) if example.direction == "next" else (None, start + 1))


def _seen(batch, row):
    ids, mask = batch.layout.item_ids[row].tolist(), batch.layout.mask()[row].tolist()
    return [[item for item, sees in zip(ids, slots, strict=True) if sees] for slots in mask]


def test_only_images_in_the_window_are_read():
    """An image outside of the window costs nothing, and may be broken."""
    read = []

    def preprocess(image):
        read.append(int(image.flatten()[0]))
        return pixels_of(image)

    example = maker(length=20, preprocess=preprocess)(a_page(images=30), key=0)
    assert read == numbers_of(example.pixels)
    assert len(read) < 4


@given(parts, keys)
def test_an_item_is_always_there_where_it_is_needed(page, key):
    """With `needs_media` an example has an item, or the document has none and is dropped for that."""
    example = maker(needs_media=True, length=5)(page_of(page), key=key)
    if isinstance(example, Dropped):
        assert example.reason in {"no_media", "no_text"}
        assert "<image>" not in page
        assert "<clip>" not in page
    else:
        assert example.num_items > 0


def test_begin_and_end_of_the_document_are_in_the_windows_that_reach_them():
    """`<BOS>` and `<EOS>` stand at the ends of the document, not of the window."""
    page = a_page(images=3)
    rows = [maker(length=10)(page, key=key).input_ids for key in range(60)]
    assert {row[0] == BOS for row in rows} == {True, False}
    assert not any(BOS in row[1:] or EOS in row[:-1] for row in rows)


def test_features_are_taken_by_name():
    """Features that were computed before stand in place of pixels."""
    store = {"one.jpg": torch.ones(1, 4, 5), "two.jpg": torch.zeros(1, 4, 5)}
    page = InterleavedDocument.from_parts([ImageSegment(url="one.jpg"), "a", ImageSegment(url="two.jpg"), "b"])
    example = maker(preprocess=None, features=store)(page, key=0)
    assert example.pixels is None
    assert [item is store[name] for item, name in zip(example.features, store, strict=True)] == [True, True]
    missing = maker(preprocess=None, features={})(page, key=0)
    assert missing.reason == "media_missing"
    assert "'one.jpg' is not among the features" in missing.detail


def bomb():
    """A small file whose header says that it has 144 million pixels."""
    file = bytearray(file_of())
    file[16:24] = struct.pack(">II", 12_000, 12_000)
    file[29:33] = struct.pack(">I", zlib.crc32(bytes(file[12:29])))
    return bytes(file)


BROKEN = {
    "an image that was not fetched": (ImageSegment(url="https://ex.com/a.jpg"), "media_missing", "not fetched"),
    "a page under the name of an image": (ImageSegment(data=b"<html>"), "image_unreadable", "UnidentifiedImageError"),
    "a file cut in the middle": (ImageSegment(data=file_of(kind="JPEG")[:400]), "image_unreadable", "OSError"),
    "an empty file": (ImageSegment(data=b""), "image_unreadable", ""),
    "something that is no image": (ImageSegment(data=object()), "image_unreadable", "ValueError: image is a object"),
    "a clip without frames": (ClipSegment(data=()), "clip_unreadable", "no frames"),
    "a clip with a broken frame": (ClipSegment(data=(b"?",)), "clip_unreadable", "UnidentifiedImageError"),
    "a clip that was not fetched": (ClipSegment(url="https://ex.com/a.mp4"), "media_missing", "not fetched"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_item_drops_its_page(name):
    """Whatever is wrong with an item, the page becomes a reason that can be counted, and never an exception."""
    item, reason, detail = BROKEN[name]
    make = maker(preprocess=ImagePreprocess((8, 8)))
    dropped = make(InterleavedDocument.from_parts(["a", item, "b"]), key=0)
    assert isinstance(dropped, Dropped)
    assert dropped.reason == reason
    assert dropped.reason in make.reasons
    assert detail in dropped.detail


@pytest.mark.filterwarnings("ignore:Image size")
def test_a_file_that_would_fill_the_memory_is_not_decoded():
    """The header says how many pixels there are, and nothing is decoded of too many."""
    make = maker(preprocess=lambda image: pytest.fail("decoded"))
    dropped = make(InterleavedDocument.from_parts([bomb(), "b"]), key=0)
    assert dropped == Dropped("image_pixels", "12000 x 12000 pixels, wanted 90000000 at most")


def test_clips_are_read_by_the_function_that_was_given():
    """The frames of a clip come from `clip_images`, which may ask for a drawn place, and may drop the clip."""
    asked = []

    def clip_images(clip, *, place):
        asked.append((clip.data, place))
        return [torch.full((3, 2, 2), 7, dtype=torch.uint8)] * 3

    page = InterleavedDocument.from_parts([ClipSegment(data=b"mp4"), "a"])
    example = maker(clip_images=clip_images)(page, key=5)
    assert example.pixels[0].shape == (3, 3, 2, 2)
    assert asked == [(b"mp4", KeyedDraws(5).uniform("place", 0))]
    plain = maker(clip_images=lambda clip: [torch.zeros(3, 2, 2, dtype=torch.uint8)])(page, key=5)
    assert len(plain.pixels[0]) == 1
    dropped = maker(clip_images=lambda clip: Dropped("no_video", "audio only"))(page, key=5)
    assert dropped == Dropped("clip_unreadable", "no_video: audio only")


def test_text_that_says_a_special_token_drops_its_page():
    """A text that encodes to the id of a tag could not be told from the tag."""
    special = SpecialTokens(media=ord("#"), end_of_chunk=TAG)
    dropped = maker(special)(page_of(["a # b", "<image>"]), key=0)
    assert dropped.reason == "special_token"


def test_a_forgotten_preprocess_is_no_fault_of_the_page():
    """What the caller forgot is an error, and drops nothing."""
    with pytest.raises(ValueError, match="preprocess is None; pass preprocess=tower.preprocess"):
        maker(preprocess=None)(a_page(), key=0)


def test_a_missing_package_is_no_fault_of_the_page():
    """A package that is not installed stops the run, in place of dropping every page."""

    def preprocess(image):
        raise ImportError("pillow")

    with pytest.raises(ImportError):
        maker(preprocess=preprocess)(a_page(), key=0)


@pytest.mark.parametrize(
    "preprocess",
    [ImagePreprocess((8, 12), (0.5, 0.4, 0.3)), NaFlexPreprocess(patch_size=4, max_num_patches=6)],
    ids=["pad", "naflex"],
)
def test_images_are_augmented_by_the_key(preprocess):
    """Each image of a page is changed on its own, and the frames of a clip alike."""
    frame = torch.randint(0, 255, (3, 6, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    page = InterleavedDocument.from_parts([ImageSegment(data=frame), ClipSegment(data=(frame, frame)), "a"])
    make = maker(preprocess=preprocess, augment_images=AugmentImages())
    one, clip = make(page, key=3).pixels
    assert torch.equal(clip[0], clip[1])
    assert not torch.equal(one[0], clip[0])
    assert not torch.equal(one[0], preprocess(frame))
    change = AugmentImages().draw(KeyedDraws(3), 0)
    assert torch.equal(one[0], preprocess(frame, augment=change))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(p_next=1.5), r"p_next is 1\.5, wanted a chance"),
        (dict(length=0), "length is 0, wanted the 1 tokens of a tag"),
        (dict(max_media=0), "max_media is 0"),
        (dict(augment_images=AugmentImages()), "preprocess is a function, which takes no augment="),
        (dict(features={}), "preprocess and features were given"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_at_once(options, message):
    """The maker is refused, and not each of its documents."""
    with pytest.raises(ValueError, match=message):
        maker(**options)


def test_an_example_names_its_data_set():
    """`source` stands in every example."""
    example = maker(source="pages")(a_page(), key=0)
    assert isinstance(example, FlamingoExample)
    assert example.source == "pages"
