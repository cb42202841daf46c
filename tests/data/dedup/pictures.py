"""Real pictures, and copies of them as they are found on the web."""

import io
from functools import cache
from pathlib import Path

from PIL import Image, ImageOps


def file_of(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@cache
def photographs():
    """China and a flower of scikit-learn, Grace Hopper of matplotlib, and parts of the first two."""
    import matplotlib as mpl
    from sklearn.datasets import load_sample_images

    wholes = [Image.fromarray(image) for image in load_sample_images().images]
    found = dict(zip(("china", "flower"), wholes, strict=True))
    with Image.open(Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg") as hopper:
        found["hopper"] = hopper.convert("RGB")
    for name in ("china", "flower"):
        for column in range(4):
            for row in range(3):
                box = (160 * column, 142 * row, 160 * column + 160, 142 * row + 142)
                part = found[name].crop(box).resize((640, 568), Image.Resampling.BICUBIC)
                found[f"{name} {column} {row}"] = part
    return found


@cache
def digits(number):
    """Handwritten digits, 256 pixels a side."""
    from sklearn.datasets import load_digits

    scans = load_digits().images[:number]
    return [
        Image.fromarray((scan * 15.9).astype("uint8")).resize((256, 256), Image.Resampling.BICUBIC).convert("RGB")
        for scan in scans
    ]


def scaled(image, factor):
    size = (round(image.width * factor), round(image.height * factor))
    return image.resize(size, Image.Resampling.LANCZOS)


def cropped(image):
    """Without a twentieth at each side."""
    width, height = image.size
    return image.crop((round(0.05 * width), round(0.05 * height), round(0.95 * width), round(0.95 * height)))


COPIES = {
    "quality 50": lambda image: file_of(image, quality=50),
    "as PNG": lambda image: file_of(image, "PNG"),
    "half the size": lambda image: file_of(scaled(image, 0.5), quality=90),
    "a third of the size": lambda image: file_of(scaled(image, 0.37), quality=90),
    "cropped": lambda image: file_of(cropped(image), quality=90),
    "mirrored": lambda image: file_of(ImageOps.mirror(image), quality=90),
}


def _rings(width):
    rings = Image.radial_gradient("L").crop((0, 0, 200, 200)).point(lambda grey: grey * 5 % 256)
    return rings.resize((width, width))


# Small files: two copies of a picture, another picture, one that is plain, and one that is no image.
FILES = [
    file_of(_rings(150), "PNG"), file_of(_rings(300), "PNG"), file_of(ImageOps.mirror(_rings(150)), "PNG"),
    file_of(Image.new("L", (99, 99), 50), "PNG"), b"<html>",
]  # fmt: skip
