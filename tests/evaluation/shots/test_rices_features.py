"""What the pictures of items show, as one vector an item."""

import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flamingo_blocks.data import ClipSegment, Dropped, ImageSegment
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.shots import rices_features
from flamingo_blocks.vision import CallableTower, PatchTokens


class Tower(torch.nn.Module):
    """Patches of 4 x 4 pixels; counts the frames that it sees."""

    dim, grid = 6, (2, 2)

    def __init__(self, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.nn.Parameter(torch.randn(6, 3, 4, 4, generator=generator))
        self.requires_grad_(requires_grad=False)
        self.eval()
        self.frames = 0

    def preprocess(self, image):
        return torch.as_tensor(image)[:, :8, :8].float()

    def forward(self, pixels):
        self.frames += len(pixels)
        return PatchTokens(tokens=torch.nn.functional.conv2d(pixels, self.weight, stride=4).flatten(2).mT)


def picture(seed):
    return torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(seed))


def an_item(number, *media):
    return TaskItem(id=str(number), media=media or (ImageSegment(url=f"{number}.jpg", data=picture(number)),))


def seen_by(tower, calls):
    """Frames seen without the one test picture that tells towers apart."""
    return tower.frames - calls


def by_hand(item, tower):
    """The mean of patches, frames and pictures, of length 1."""
    media = []
    for medium in item.media:
        frames = medium.data if isinstance(medium, ClipSegment) else [medium.data]
        media.append(torch.stack([tower(frame[None]).tokens[0].mean(0) for frame in frames]).mean(0))
    mean = torch.stack(media).mean(0)
    return mean / mean.norm()


@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=3), max_size=4), st.integers(1, 5))
def test_a_vector_is_the_mean_of_all_that_is_shown(shapes, batch_size):
    """Whatever is encoded together; 0 stands for an image, and other numbers for the frames of a clip."""
    items = []
    for number, shape in enumerate(shapes):
        media = []
        for place, frames in enumerate(shape):
            seed = 100 * number + 10 * place
            if frames == 0:
                media.append(ImageSegment(data=picture(seed)))
            else:
                media.append(ClipSegment(data=[picture(seed + frame) for frame in range(frames)]))
        items.append(an_item(number, *media))
    tower = Tower()
    found = rices_features(items, tower=tower, batch_size=batch_size)
    expected = [by_hand(item, tower) for item in items]
    assert found.shape == (len(items), 6)
    if items:
        torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=1e-5)


def test_a_picture_is_encoded_once():
    """However many items ask about it."""
    tower, shared = Tower(), ImageSegment(url="a.jpg", data=picture(0))
    found = rices_features([an_item(number, shared) for number in range(5)], tower=tower)
    assert tower.frames == 1
    assert torch.equal(found, found[:1].expand(5, -1))


def test_a_cache_serves_what_it_has_seen(tmp_path):
    """Another picture is encoded, another tower starts anew, and what is kept is what would be computed."""
    items = [an_item(number) for number in range(4)]
    first, second, other = Tower(), Tower(), Tower(seed=1)
    expected = rices_features(items[:3], tower=first, cache=tmp_path / "features")
    assert seen_by(first, 1) == 3
    assert torch.equal(rices_features(items, tower=second, cache=tmp_path / "features")[:3], expected)
    assert seen_by(second, 1) == 1
    assert not torch.equal(rices_features(items[:3], tower=other, cache=tmp_path / "features"), expected)
    assert seen_by(other, 1) == 3
    assert len(list((tmp_path / "features").iterdir())) == 2


def test_preprocessing_is_part_of_a_tower(tmp_path):
    """Another way to make pixels of a picture is another tower to the cache."""
    convolution = torch.nn.Conv2d(3, 4, 4, stride=4)
    item = an_item(0)
    for tower in (
        CallableTower(convolution, image_size=8),
        CallableTower(
            convolution, image_size=8, preprocess=lambda image: torch.as_tensor(image)[:, :8, :8] / 255 - 1.0
        ),
    ):
        rices_features([item], tower=tower, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_changed_picture_is_encoded_again(tmp_path):
    """Under its old name: a file by its size, what is in memory by its content."""
    tower, path = Tower(), tmp_path / "a.png"
    reader = lambda medium: [picture(0) if medium.data is path else medium.data]  # noqa: E731
    for size in (8, 9, 9):
        Image.new("RGB", (size, 70 * size)).save(path)
        rices_features([an_item(0, ImageSegment(url="a", data=path))], tower=tower, reader=reader, cache=tmp_path / "c")
    assert seen_by(tower, 3) == 2
    for seed in (0, 1, 1):
        rices_features([an_item(0, ImageSegment(url="b", data=picture(seed)))], tower=tower, cache=tmp_path / "c")
    assert seen_by(tower, 6) == 4


def test_what_cannot_be_named_is_not_kept(tmp_path):
    """A thing of which no hash can be made is known by itself, in this call alone."""
    tower, thing = Tower(), object()
    item = an_item(0, ImageSegment(url="a", data=thing))
    for _ in range(2):
        rices_features([item], tower=tower, reader=lambda medium: [picture(0)], cache=tmp_path)
    assert seen_by(tower, 2) == 2


def test_a_damaged_cache_is_made_again(tmp_path, caplog):
    """With a warning; a cache ends no run."""
    items = [an_item(0)]
    expected = rices_features(items, tower=Tower(), cache=tmp_path)
    (file,) = tmp_path.iterdir()
    for damage in (b"", b"no file of torch", file.read_bytes()[:200]):
        file.write_bytes(damage)
        with caplog.at_level(logging.WARNING):
            assert torch.equal(rices_features(items, tower=Tower(), cache=tmp_path), expected)
        assert "is damaged, and its features are computed again" in caplog.text
        caplog.clear()
    rices_features(items, tower=Tower(), cache=tmp_path)
    assert not caplog.text


def test_patches_that_show_nothing_do_not_count():
    """Towers of variable size say which; frames count alike, however many of their patches show something."""

    class Part(Tower):
        def forward(self, pixels):
            tokens = super().forward(pixels).tokens
            valid = torch.arange(4) < 1 + torch.arange(len(pixels))[:, None] % 3
            return PatchTokens(tokens=tokens.masked_fill(~valid[..., None], torch.nan), valid=valid)

    whole, frames = Tower(), [picture(0), picture(1)]
    first, second = whole(torch.stack(frames)).tokens
    kept = first[0] + second[:2].mean(0)
    found = rices_features([an_item(0, ClipSegment(data=frames))], tower=Part())[0]
    torch.testing.assert_close(found, kept / kept.norm(), atol=1e-5, rtol=1e-5)


def test_frames_of_another_size_have_a_call_of_their_own():
    """As a tower of variable size needs."""

    class AnySize(Tower):
        def preprocess(self, image):
            return torch.as_tensor(image).float()

    items = [an_item(number, ImageSegment(data=torch.rand(3, 8, 8 * (1 + number % 2)))) for number in range(4)]
    tower = AnySize()
    found = rices_features(items, tower=tower)
    torch.testing.assert_close(found, torch.stack([by_hand(item, tower) for item in items]), atol=1e-5, rtol=1e-5)


def test_files_are_read(tmp_path):
    """Of images, by the tower's own preprocessing."""
    Image.new("RGB", (20, 10), "red").save(tmp_path / "red.png")
    tower = CallableTower(torch.nn.Conv2d(3, 8, 4, stride=4), image_size=16)
    of_file = rices_features([an_item(0, ImageSegment(url="red", data=tmp_path / "red.png"))], tower=tower)
    of_picture = rices_features([an_item(0, ImageSegment(data=Image.new("RGB", (20, 10), "red")))], tower=tower)
    torch.testing.assert_close(of_file, of_picture)


@pytest.mark.parametrize(
    ("media", "said"),
    [
        ((), "item '7' has no image or clip, so none is like it"),
        ((ImageSegment(url="a.jpg"),), "item '7': a.jpg cannot be read: not_fetched"),
        ((ImageSegment(url="a.jpg", data="missing.jpg"),), "item '7': a.jpg cannot be read: "),
        ((ClipSegment(url="a.mp4", data=()),), "item '7': a.mp4 cannot be read: no_frames"),
        ((ImageSegment(data=torch.zeros(3, 8, 8)),), "features of item '7' are zero or not finite .length 0"),
        ((ImageSegment(data=torch.full((3, 8, 8), torch.nan)),), "features of item '7' are zero or not finite"),
        ((ClipSegment(data=[torch.ones(3, 8, 8), torch.ones(3, 4, 8)]),), "has frames of 2 sizes, wanted one"),
    ],
)
def test_pictures_that_cannot_be_read_are_told(media, said):
    """With the item, its name and why."""
    with pytest.raises(EvaluationError, match=said):
        rices_features([TaskItem(id="7", media=media)], tower=Tower())


def test_a_reader_says_why():
    """Its reason stands in the error; one without images is told too."""
    options = {"tower": Tower(), "reader": lambda medium: Dropped("clip_side", "9000 px")}
    with pytest.raises(EvaluationError, match="item '1': 1.jpg cannot be read: clip_side: 9000 px"):
        rices_features([an_item(1)], **options)
    with pytest.raises(EvaluationError, match="item '1': 1.jpg has no frames"):
        rices_features([an_item(1)], tower=Tower(), reader=lambda medium: [])


def test_a_package_that_is_missing_is_no_fault_of_a_picture():
    """The error is that of the package."""

    def reader(medium):
        raise ImportError("av")

    with pytest.raises(ImportError, match="av"):
        rices_features([an_item(1)], tower=Tower(), reader=reader)


def test_slips_are_told():
    """With the argument, what came and what is wanted."""
    with pytest.raises(ValueError, match="batch_size is 0, wanted 1 or more"):
        rices_features([], tower=Tower(), batch_size=0)
    with pytest.raises(ValueError, match="tower is in training mode"):
        rices_features([], tower=Tower().train())
