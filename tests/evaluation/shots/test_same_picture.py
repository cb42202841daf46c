"""Whether two items show the same picture."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flamingo_blocks.data import ClipSegment, ImageSegment
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.shots.same_picture import SamePicture, content_digest, tensor_bytes

GREY, WHITE = np.full((2, 3, 3), 128, np.uint8), np.full((2, 3, 3), 255, np.uint8)


def an_item(id_, *data, kind=ImageSegment):
    media = tuple(kind(url=f"{id_}-{number}", data=each) for number, each in enumerate(data))
    return TaskItem(id=id_, media=media)


FORMS = {
    "bytes": (b"abc", b"abd"),
    "array": (GREY, WHITE),
    "tensor": (torch.zeros(3, 2, 2), torch.ones(3, 2, 2)),
    "picture": (Image.fromarray(GREY), Image.fromarray(WHITE)),
    "frames": ([GREY, WHITE], [GREY, GREY]),
    "frames of bytes": ((b"a", b"b"), (b"a", b"c")),
}


@pytest.mark.parametrize("form", FORMS)
def test_contents_are_compared(form):
    """Under other names and ids, an equal content is the same picture, and another is another."""
    one, other = FORMS[form]
    twin = copy.deepcopy(one)
    same = SamePicture()
    assert same(an_item("1", one), an_item("2", twin))
    assert not same(an_item("1", one), an_item("2", other))
    assert same(an_item("1", other, one), an_item("2", twin))


def test_files_are_compared_by_content(tmp_path):
    """A file with its copy and with its bytes; those of another size are not read, nor are those that are missing."""
    for name, content in {"a": b"abc", "copy": b"abc", "other": b"abd", "longer": b"abcd"}.items():
        (tmp_path / name).write_bytes(content)
    same = SamePicture()

    def pair(name, right):
        return same(an_item("1", str(tmp_path / name)), an_item("2", right))

    assert pair("a", tmp_path / "copy")
    assert pair("a", b"abc")
    assert not pair("a", tmp_path / "other")
    assert not pair("missing", tmp_path / "missing too")
    (tmp_path / "longer").chmod(0)
    assert not pair("a", tmp_path / "longer")


def test_forms_of_one_size_are_told_apart():
    """Another shape or type of number is another content, whatever its bytes."""
    values = torch.zeros(3, 2, 4, dtype=torch.uint8)
    others = [values.view(torch.int16), values.reshape(3, 4, 2), values.numpy(), b"\0" * 24, [values]]
    assert len({content_digest(data) for data in [values, *others]}) == 6


def test_what_cannot_be_looked_at_is_no_picture():
    """It is told by names alone; a digest of it is refused."""
    same = SamePicture()
    thing = object()
    assert not same(an_item("1", thing), an_item("2", thing))
    assert not same(an_item("1", None), an_item("2", None))
    assert not same(an_item("1", [thing]), an_item("2", [thing]))
    with pytest.raises(ValueError, match="a picture is a object, wanted a path, bytes, an array"):
        content_digest(thing)


def test_clips_of_a_file_are_one_picture(tmp_path):
    """Two cuts of a video show each other."""
    (tmp_path / "a.mp4").write_bytes(b"video")
    cuts = [TaskItem(id=n, media=(ClipSegment(url=f"a#{n}", data=tmp_path / "a.mp4"),)) for n in "12"]
    assert SamePicture()(*cuts)


@given(st.lists(st.integers(0, 255), max_size=6), st.sampled_from([torch.uint8, torch.int32, torch.float32]))
def test_the_bytes_of_a_tensor_are_those_of_numpy(values, dtype):
    """Also of one that does not lie in one piece."""
    tensor = torch.tensor(values, dtype=dtype)
    assert tensor_bytes(tensor) == tensor.numpy().tobytes()
    assert tensor_bytes(tensor[::2]) == tensor.numpy()[::2].tobytes()
