"""Images of every kind and shape become pixels of one size."""

import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from flamingo_blocks.vision import ImagePreprocess

np = pytest.importorskip("numpy")
Image = pytest.importorskip("PIL.Image")


def noise(height, width, seed=0):
    """A smooth picture: resizing noise would test the noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 4, 4, generator=generator)
    picture = F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)[0]
    return (picture * 255).round().to(torch.uint8)


def as_pil(picture):
    return Image.fromarray(picture.permute(1, 2, 0).numpy())


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from(["pad", "crop", "stretch"]))
def test_every_image_comes_out_in_the_one_size(height, width, fit):
    """Height and width of the pixels never depend on the image."""
    preprocess = ImagePreprocess(size=(24, 16), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), fit=fit)
    pixels = preprocess(noise(height, width))
    assert pixels.shape == (3, 24, 16)
    assert pixels.dtype == torch.float32
    assert pixels.isfinite().all()


def test_all_kinds_of_images_give_the_same_pixels(tmp_path):
    """PIL, file, bytes, array, integer and float tensor of one picture agree."""
    picture = noise(20, 30)
    image = as_pil(picture)
    image.save(tmp_path / "picture.png")
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    preprocess = ImagePreprocess(size=(16, 16), mean=(0.5, 0.4, 0.3))
    expected = preprocess(picture)
    array = np.asarray(image)
    for kind in (image, tmp_path / "picture.png", encoded.getvalue(), array, array[:, ::-1][:, ::-1]):
        assert torch.equal(preprocess(kind), expected)
    torch.testing.assert_close(preprocess(picture.float() / 255), expected, atol=1 / 255, rtol=0)  # bytes are rounded


def test_grey_images_fill_all_channels_and_transparency_is_dropped():
    """One channel is repeated, a fourth one cut."""
    preprocess = ImagePreprocess(size=(8, 8), fit="stretch")
    grey = noise(8, 8)[:1]
    expected = grey.expand(3, -1, -1) / 255
    for kind in (grey, grey[0], grey[0].numpy(), grey.permute(1, 2, 0).numpy(), Image.fromarray(grey[0].numpy())):
        torch.testing.assert_close(preprocess(kind), expected)
    colour = noise(8, 8)
    transparent = torch.cat([colour, torch.zeros_like(grey)])
    torch.testing.assert_close(preprocess(transparent), colour / 255)
    torch.testing.assert_close(preprocess(as_pil(transparent)), colour / 255)


@pytest.mark.parametrize(("mode", "number"), [("bilinear", 2), ("bicubic", 3)])
def test_resizing_agrees_with_pil(mode, number):
    """The antialiased filters are PIL's, up to its rounding to whole levels."""
    picture = noise(50, 70)
    for size in ((20, 24), (90, 120)):
        expected = np.asarray(as_pil(picture).resize((size[1], size[0]), number)) / 255.0
        pixels = ImagePreprocess(size=size, fit="stretch", interpolation=mode)(picture)
        assert (pixels.permute(1, 2, 0) - torch.as_tensor(expected)).abs().max() < 1.1 / 255
        floats = ImagePreprocess(size=size, fit="stretch", interpolation=mode)(picture.float() / 255)
        assert (pixels - floats).abs().max() < 2.1 / 255


def test_padding_is_the_mean_and_keeps_the_aspect_ratio():
    """A wide image has bands of zeros, which is the mean once normalised, above and below."""
    preprocess = ImagePreprocess(size=(16, 16), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
    pixels = preprocess(torch.ones(3, 10, 20))
    assert (pixels[:, :4] == 0).all()
    assert (pixels[:, 12:] == 0).all()
    inside = ((torch.ones(3) - torch.tensor([0.5, 0.4, 0.3])) / 0.2)[:, None, None].expand(3, 8, 16)
    torch.testing.assert_close(pixels[:, 4:12], inside)
    tall = preprocess(torch.ones(3, 20, 10))
    torch.testing.assert_close(tall[:, :, 4:12], inside.mT)


def test_a_strip_is_cut_before_it_is_made_huge():
    """A picture one pixel high costs what its middle costs, and its middle is what comes out."""
    strip = torch.zeros(3, 1, 100_000, dtype=torch.uint8)
    strip[:, :, 49_990:50_010] = 255
    assert torch.equal(ImagePreprocess(size=(128, 128), fit="crop")(strip), torch.ones(3, 128, 128))


def test_cropping_keeps_the_centre():
    """A wide image loses its sides, and the shorter edge may be larger than the frame."""
    picture = torch.zeros(3, 16, 32)
    picture[:, :, 8:24] = 1.0
    assert ImagePreprocess(size=(16, 16), fit="crop")(picture)[:, :, 1:-1].min() > 0.9
    rim = torch.zeros(3, 20, 20)
    rim[:, 2:18, 2:18] = 1.0
    assert torch.equal(ImagePreprocess(size=(16, 16), fit="crop", shortest_edge_px=20)(rim), torch.ones(3, 16, 16))


SHAPES = [(50, 70), (70, 51), (33, 64), (16, 16)]
CROP = {"height": 16, "width": 16}


def processor_of(family, **options):
    """An image processor of transformers that needs no torchvision; newer ones have a class of its own for it."""
    transformers = pytest.importorskip("transformers")
    name = f"{family}ImageProcessor"
    found = getattr(transformers, f"{name}Pil", None) or getattr(transformers, name)
    return found(**options)


def assert_same_pixels(processor, config, shape):
    picture = noise(*shape)
    expected = processor(as_pil(picture), return_tensors="pt")["pixel_values"][0]
    found = ImagePreprocess.from_config(config)(picture)
    assert (found - expected).abs().max() < 3 / 255 / min(processor.image_std)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("CLIP", {"size": {"shortest_edge": 16}, "crop_size": CROP}),
        ("CLIP", {"size": {"shortest_edge": 20}, "crop_size": CROP}),
        ("Bit", {"size": {"shortest_edge": 20}, "crop_size": CROP}),  # DINOv2's
        ("DeiT", {"size": {"height": 20, "width": 20}, "crop_size": CROP}),
        ("DeiT", {"size": {"height": 20, "width": 18}, "crop_size": CROP}),
        ("CLIP", {"size": {"height": 20, "width": 18}, "crop_size": CROP}),
        ("Siglip", {"size": {"height": 16, "width": 16}}),
        ("ViT", {"size": {"height": 16, "width": 16}}),
        ("ViT", {"size": {"height": 16, "width": 16}, "do_normalize": False}),
        (
            "Beit",
            {"size": {"height": 16, "width": 16}, "crop_size": {"height": 8, "width": 8}},
        ),  # which it leaves alone
    ],
)
def test_pixels_agree_with_hugging_face_image_processors(family, options, shape):
    """Read from an image processor's config, the preprocessing gives that processor's pixels."""
    processor = processor_of(family, **options)
    assert_same_pixels(processor, processor.to_dict(), shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "name", ["{}ImageProcessor", "{}ImageProcessorFast", "{}ImageProcessorPil", "{}FeatureExtractor"]
)
@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("CLIP", {"size": 20, "crop_size": 16}),
        ("Bit", {"size": 20, "crop_size": 16}),
        ("DeiT", {"size": 20, "crop_size": 16}),
        ("ViT", {"size": 16}),
    ],
)
def test_a_size_of_one_number_means_what_it_means_to_the_class(family, options, name, shape):
    """As older files have it: a square to some, the shorter side to others, by any name of the class."""
    processor = processor_of(family, **options)
    config = {**processor.to_dict(), **options, "image_processor_type": None}
    key = "feature_extractor_type" if "Feature" in name else "image_processor_type"
    assert_same_pixels(processor, {**config, key: name.format(family)}, shape)


def test_a_path_may_be_a_string(tmp_path):
    """As `Path` objects and the bytes of a file; a name that is no file is told as such."""
    path = tmp_path / "picture.png"
    as_pil(torch.arange(48, dtype=torch.uint8).view(3, 4, 4)).save(path)
    preprocess = ImagePreprocess(size=(8, 8))
    assert torch.equal(preprocess(str(path)), preprocess(path))
    with pytest.raises(FileNotFoundError, match=r"no\.png"):
        preprocess("no.png")


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("option", [{"fit": "letterbox"}, {"interpolation": "nearest"}])
def test_unknown_words_are_refused(option):
    """The error lists those there are; a tower passes its own on."""
    name, word = next(iter(option.items()))
    with pytest.raises(ValueError, match=f"{name} is '{word}', wanted one of '.*', '"):
        ImagePreprocess(size=(8, 8), **option)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (3, "image is a int; pass a PIL image, a path"),
        (torch.zeros(5, 4, 4), r"height and width \[5, 4, 4\], wanted 1, 3 or 4 channels"),
        (np.zeros((3, 8, 8), dtype=np.uint8), r"\[8, 3, 8\].*arrays are \[height width channels\]"),
        (torch.zeros(3, 0, 4), r"\[3, 0, 4\].*at least one pixel"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "dtype torch.int64, wanted uint8"),
        (torch.full((3, 4, 4), 255.0), "floats from 255 to 255, wanted 0 to 1"),
        (torch.full((3, 4, 4), float("nan")), "floats from nan to nan, wanted 0 to 1"),
    ],
)
def test_what_is_no_image_is_refused(image, message):
    """The error says what came and what is wanted."""
    with pytest.raises(ValueError, match=message):
        ImagePreprocess(size=(8, 8))(image)


CROPPED = {"crop_size": 8, "do_center_crop": True}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"size": {"longest_edge": 9}}, "size is {'longest_edge': 9}, wanted an int"),
        ({"size": {"shortest_edge": 9}}, "size is {'shortest_edge': 9}, wanted an int, .* or shortest_edge and a crop"),
        ({"size": 9, "image_processor_type": "CLIPImageProcessor"}, "size is {'shortest_edge': 9}, wanted an int"),
        ({"size": {"longest_edge": 9, "shortest_edge": 8}, **CROPPED}, "size is {'longest_edge': 9, .*wanted an int"),
        ({**CROPPED}, "size is None, wanted an int"),
        (
            {"size": 9, **CROPPED},
            "size is 9 before a crop, which image_processor_type None may take .*'shortest_edge': 9",
        ),
        ({"size": 9, **CROPPED, "image_processor_type": "NewImageProcessor"}, "type 'NewImageProcessor' may take"),
        ({"size": 9, "do_center_crop": True}, "crop_size is None, wanted an int, or height and width"),
        ({"size": 9, "crop_size": 8}, "do_center_crop is missing beside crop_size 8"),
        ({"size": {"shortest_edge": 7}, **CROPPED}, r"crop_size is \[8, 8\], wanted at most the \[7, 7\]"),
        ({"size": {"height": 9, "width": 7}, **CROPPED}, r"crop_size is \[8, 8\], wanted at most the \[9, 7\]"),
    ],
)
def test_configs_without_a_fixed_frame_are_refused(config, message):
    """Sizes that depend on the image, or that can be taken in two ways, are no silent default."""
    with pytest.raises(ValueError, match=message):
        ImagePreprocess.from_config(config)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("resample", 1),
        ("do_resize", False),
        ("do_rescale", False),
        ("rescale_factor", 1 / 127.5),
        ("rescale_offset", True),
        ("do_pad", True),
        ("do_flip_channel_order", True),
        ("crop_pct", 0.9),
        ("keep_aspect_ratio", True),
        ("size_divisor", 32),
        ("include_top", True),
    ],
)
def test_settings_that_are_not_done_are_refused(key, value):
    """What would give other pixels than the image processor's is refused by its key, and left alone where it is off."""
    with pytest.raises(ValueError, match=f"{key} is {value}, wanted"):
        ImagePreprocess.from_config({"size": 9, key: value})
    assert ImagePreprocess.from_config({"size": 9, key: {"resample": 3}.get(key)}).size == (9, 9)


def test_a_config_may_write_out_what_is_the_rule():
    """Settings that say what is done anyway, and those that move no pixel, change nothing."""
    said = {"do_resize": True, "do_rescale": True, "rescale_factor": 0.00392156862745098, "do_normalize": True}
    idle = {"do_convert_rgb": True, "do_reduce_labels": True, "do_pad": False, "crop_size": None}
    assert ImagePreprocess.from_config({"size": 9, **said, **idle}) == ImagePreprocess.from_config({"size": 9})


def test_a_config_may_ask_for_no_normalisation():
    """`do_normalize: false` leaves values between 0 and 1, whatever mean it holds."""
    config = {"size": 9, "do_normalize": False, "image_mean": [0.5, 0.5, 0.5], "resample": 2}
    assert ImagePreprocess.from_config(config) == ImagePreprocess((9, 9), fit="stretch", interpolation="bilinear")
