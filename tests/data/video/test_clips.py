"""Clips as values, as documents have them, and as files."""

import pytest
import torch

from flamingo_blocks.data import ClipSegment, Dropped, FlamingoExample, InterleavedDocument, collate
from flamingo_blocks.data.video import Clip, clip_images, decode_clip, encode_clip, training_frames
from tests.data.video.numbered import clip_file, numbered, numbers


def test_a_clip_of_fewer_frames_is_padded():
    """To a fixed number, with a mask; the same as a batch pads it."""
    found = decode_clip(clip_file(25, fps=10.0))
    frames, valid = found.padded(8)
    assert frames.shape == (8, 3, 32, 96)
    assert valid.tolist() == [True] * 3 + [False] * 5
    assert torch.equal(frames[:3], found.frames)
    assert not frames[3:].any()
    examples = [
        FlamingoExample([5], tags=[0], pixels=[clip.float()]) for clip in (found.frames, torch.zeros(8, 3, 32, 96))
    ]
    batch = collate(examples, pad_id=0)
    assert torch.equal(batch.pixels[0], frames.float())
    assert torch.equal(batch.frame_valid[0], valid)
    with pytest.raises(ValueError, match="count is 2, and the clip has 3 frames"):
        found.padded(2)


def test_a_clip_of_a_document_becomes_images(tmp_path):
    """Bytes and files are decoded, frames are given as they are, and what is not there is told."""
    file = clip_file(200, fps=10.0)
    path = tmp_path / "clip.mp4"
    path.write_bytes(file)
    options = training_frames(0, "clip")
    expected = numbers(decode_clip(file, **options).frames)
    for data in (file, path):
        images = clip_images(ClipSegment(data=data), **options)
        assert numbers(torch.stack(images)) == expected
        assert images[0].shape == (3, 32, 96)
    (segment,) = InterleavedDocument.from_parts([[numbered(7), numbered(9)]]).media
    assert numbers(torch.stack(clip_images(segment))) == [7, 9]
    assert len(clip_images(ClipSegment(data=torch.zeros(4, 3, 8, 8)))) == 4
    assert clip_images(ClipSegment(url="https://ex.com/a.mp4")) == Dropped("not_fetched", "https://ex.com/a.mp4")
    assert clip_images(ClipSegment(data=())).reason == "no_frames"
    assert clip_images(ClipSegment(data=b"no clip")).reason == "undecodable"


def test_images_of_a_clip_are_what_a_preprocess_takes():
    """As those of a file of an image."""
    from flamingo_blocks.vision import ImagePreprocess

    preprocess = ImagePreprocess(size=(48, 48))
    images = clip_images(ClipSegment(data=clip_file(30, fps=10.0)))
    assert torch.stack([preprocess(image) for image in images]).shape == (3, 3, 48, 48)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_written_frames_are_read(layout):
    """Whatever their layout in memory, from a sequence or an iterator."""
    frames = torch.stack([numbered(number) for number in (3, 5, 4095)]).to(memory_format=layout)
    for given in (frames, iter(frames)):
        found = decode_clip(encode_clip(given, fps=2.0), fps=2.0)
        assert isinstance(found, Clip)
        assert numbers(found.frames) == [3, 5, 4095]


def test_frames_and_times_belong_together():
    """No frames, and more or fewer times than frames, are errors."""
    frames = torch.stack([numbered(number) for number in range(3)])
    with pytest.raises(ValueError, match="frames is empty, wanted one frame at least"):
        encode_clip([])
    for times in ([0.0, 1.0], [0.0, 1.0, 2.0, 3.0]):
        with pytest.raises(
            ValueError, match=f"times_s has {len(times)} times for (more|3) frames; give each frame one"
        ):
            encode_clip(frames, times_s=times)
