"""Images and clips are encoded once each, and what cannot be read is named."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import ClipSegment, ImageSegment
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.examples.read_item import ItemReader
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.decode import MediaPool, UnreadableMediaError, cut_frames
from flamingo_blocks.models import build_tiny_flamingo
from tests.evaluation.decode.drawn_episodes import image

FLAMINGO = build_tiny_flamingo()
ITEM_BYTES = 4 * 16 * 4  # latents, width, float32


@given(asked=st.lists(st.lists(st.integers(0, 5), max_size=6), max_size=4), max_frames=st.integers(1, 4))
def test_each_item_is_encoded_once(asked, max_frames):
    """Whatever is asked for, how often, and how many are encoded at once: as many encodings as there are pictures."""
    pool = MediaPool(FLAMINGO, max_frames=max_frames)
    for numbers in asked:
        tokens = pool.tokens([image(number) for number in numbers])
        for number, found in zip(numbers, tokens.media, strict=True):
            alone = FLAMINGO.encode_media(FLAMINGO.vision.preprocess(image(number).data)[None, None]).media[0]
            torch.testing.assert_close(found, alone.detach(), atol=1e-5, rtol=1e-5)
    assert pool.encoded == len({number for numbers in asked for number in numbers})


def test_what_was_not_asked_for_longest_goes_first():
    """Two of three fit; the third asked for again is encoded again, and counted."""
    pool = MediaPool(FLAMINGO, memory_bytes=2 * ITEM_BYTES)
    for numbers, encoded in (([1, 2], 2), ([1], 2), ([3], 3), ([1], 3), ([2], 4), ([1, 2, 3, 4], 6)):
        assert pool.tokens([image(number) for number in numbers]).media.shape[0] == len(numbers)
        assert pool.encoded == encoded


def test_an_item_without_a_name_is_known_by_its_object():
    """Two objects that look alike are two; one object in two segments is one."""
    pool = MediaPool(FLAMINGO)
    one, other = torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)
    pool.tokens([ImageSegment(data=one), ImageSegment(data=other), ImageSegment(data=one, alt="again")])
    assert pool.encoded == 2


def test_two_files_of_one_name_are_two_pictures(tmp_path):
    """Tasks may name their own pictures alike; each is shown its own file."""
    pillow = pytest.importorskip("PIL.Image")
    images = []
    for colour in ("red", "blue"):
        (tmp_path / colour).mkdir()
        pillow.new("RGB", (8, 8), colour).save(tmp_path / colour / "1.png")
        images.append(ImageSegment(url="1.png", data=tmp_path / colour / "1.png"))
    pool = MediaPool(FLAMINGO)
    red, blue = pool.tokens(images).media
    assert pool.encoded == 2 and not torch.equal(red, blue)


def test_images_are_read_from_their_files(tmp_path):
    """A path is a picture; one that is missing or broken is named with what the decoder said."""
    pillow = pytest.importorskip("PIL.Image")
    pillow.new("RGB", (9, 7), "red").save(tmp_path / "red.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "red.png").read_bytes()[:40])
    good, missing, broken = (
        ImageSegment(url=f"val/{name}.png", data=str(tmp_path / f"{name}.png")) for name in ("red", "none", "broken")
    )
    pool = MediaPool(FLAMINGO)
    assert pool.readable([good]) and not pool.readable([good, missing])
    told = pool.unreadable([good, missing, broken])
    assert list(told) == ["the image val/none.png", "the image val/broken.png"]
    assert "FileNotFoundError" in told["the image val/none.png"]
    with pytest.raises(UnreadableMediaError, match="the image val/broken.png cannot be read: .+"):
        pool.tokens([good, broken])
    assert issubclass(UnreadableMediaError, EvaluationError)
    assert pool.encoded == 1


def test_a_blank_item_shows_nothing_and_has_the_same_shape():
    """Zeros behind `preprocess`; all of one shape are encoded once."""
    pool = MediaPool(FLAMINGO)
    blanks = [pool.blank(image(1)), pool.blank(image(2))]
    clip = pool.blank(ClipSegment(url="clip", data=[torch.ones(3, 8, 8)] * 3))
    tokens = pool.tokens([*blanks, clip]).media
    assert pool.encoded == 2 and torch.equal(tokens[0], tokens[1])
    zeros = FLAMINGO.encode_media(torch.zeros(1, 3, 3, 8, 8)).media[0].detach()
    torch.testing.assert_close(tokens[2], zeros, atol=1e-5, rtol=1e-5)
    with pytest.raises(UnreadableMediaError, match="the image nowhere.png cannot be read"):
        pool.blank(ImageSegment(url="nowhere.png"))


def test_features_that_were_computed_before_are_used():
    """The reader says so; nothing goes through the tower."""
    features = {"cat": torch.ones(1, 4, 16), "dog": torch.zeros(1, 4, 16)}
    pool = MediaPool(FLAMINGO, ItemReader(features=features))
    found = pool.tokens([ImageSegment(url="dog"), ImageSegment(url="cat")]).media
    wanted = FLAMINGO.encode_media(features=torch.stack([features["dog"], features["cat"]])).media.detach()
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert pool.unreadable([ImageSegment(url="cow")]) == {
        "the image cow": "the item 'cow' is not among the features; name items by the keys they were saved under, or "
        "leave out features= and pass preprocess="
    }


def test_memory_that_runs_out_halves_the_items(monkeypatch):
    """Until one alone fits; a device that has no room for one says so."""
    encode = FLAMINGO.encode_media
    most = 2

    def short(pixels=None, **options):
        if pixels is not None and len(pixels) > most:
            raise torch.OutOfMemoryError("full")
        return encode(pixels, **options)

    flamingo = build_tiny_flamingo()
    monkeypatch.setattr(flamingo, "encode_media", lambda **given: short(given.pop("pixels", None), **given))
    pool = MediaPool(flamingo)
    assert pool.tokens([image(number) for number in range(5)]).media.shape[0] == 5
    most = 0
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        pool.tokens([image(9)])


def test_the_frames_of_a_cut_lie_in_it(tmp_path):
    """30 at 3 FPS from its middle, fewer of a short cut, and none outside."""
    pytest.importorskip("av")
    from flamingo_blocks.data.video import decode_clip, encode_clip

    file = tmp_path / "clip.mp4"
    file.write_bytes(encode_clip([torch.full((3, 16, 16), 8 * n, dtype=torch.uint8) for n in range(30)], fps=1.0))
    segment = ClipSegment(url="clip#1", data=str(file), metadata={"start_s": 10.0, "end_s": 14.0})

    def seconds(found):
        return [round(float(torch.as_tensor(frame).float().mean()) / 8) for frame in map(_array, found)]

    assert seconds(cut_frames(segment, fps=1.0)) == [10, 11, 12, 13]
    long = replace(segment, metadata={"start_s": 10.0, "end_s": 26.0})
    assert seconds(cut_frames(long, fps=1.0, count=4)) == [16, 17, 18, 19]
    assert len(cut_frames(long)) == 30
    open_end = replace(segment, metadata={"start_s": 28.0})
    assert seconds(cut_frames(open_end, fps=1.0)) == [28, 29]
    whole = replace(segment, metadata={})
    assert len(cut_frames(whole)) == len(decode_clip(str(file), fps=3.0, count=30, place=0.5).frames)
    with pytest.raises(ValueError, match="the cut of 'clip#1' is from 20.0 to 20.0 s"):
        cut_frames(replace(segment, metadata={"start_s": 20.0, "end_s": 20.0}))
    assert isinstance(cut_frames(replace(segment, data=b"no clip")), Dropped)


def _array(frame):
    import numpy as np

    return np.asarray(frame)


def test_frames_are_an_item_of_their_own():
    """A clip of frames has time; the reader of clips is asked for files alone."""
    pool = MediaPool(FLAMINGO)
    clip = ClipSegment(url="clip", data=[image(number).data for number in range(3)])
    found = pool.tokens([clip, image(0)]).media
    assert found.shape == (2, 4, 16) and not torch.equal(found[0], found[1])
    assert pool.unreadable([ClipSegment(url="gone.mp4", data="gone.mp4")])["the clip gone.mp4"].startswith(
        "undecodable"
    )


def test_an_empty_pool_has_no_items():
    """A prompt without images is no special case."""
    assert MediaPool(FLAMINGO).tokens([]).num_items == 0
