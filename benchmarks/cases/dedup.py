"""Duplicates: signatures of texts and hashes of images beside other ways to them, and the search for likes."""

import importlib
import importlib.util
import io
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.case import OURS, Bar, Case, Contender
from benchmarks.cases.pages import CHECK_SEED, write_article
from flamingo_blocks.data.dedup import EvaluationImages, TextNearDuplicates, dhash
from flamingo_blocks.data.filters import SingleColour, small_image

PLACES, RUN_WORDS, WORDS = 112, 5, 900
PACKAGES = ("numpy", "PIL")


def cases(device: str, dtype: str, *, tiny: bool = False) -> list[Case]:
    """Texts of 900 words and photographs, on one core of a CPU; the search among evaluation images in any dtype."""
    if device != "cpu" or any(_missing(package) for package in PACKAGES):
        return []
    queries, rows, dim = (8, 100, 16) if tiny else (256, 60_000, 512)
    found = [
        Case(
            suite="dedup", name=f"dedup/evaluation-images/{rows}x{dim}",
            sizes={"images": queries, "rows": rows, "dim": dim}, device=device, dtype=dtype,
            prepare=lambda: _searches(queries, rows, dim, dtype), check=_check_search,
            flops=2 * queries * rows * dim,
            bar=(Bar("at most 1.5x the product alone", "product", 1.5, "at_most"),),
        )
    ]  # fmt: skip
    if dtype != "float32":
        return found
    texts, images = (2, 1) if tiny else (64, 8)
    for backend, ratio in (("rensa", 20.0), ("numpy", 2.0)):
        if _missing(backend) is None:
            found.append(
                Case(
                    suite="dedup", name=f"dedup/minhash/{backend}", sizes={"texts": texts, "words": WORDS},
                    device=device, dtype=dtype, prepare=partial(_sketches, backend, texts), check=_check_sketches,
                    bar=(Bar(f"at least {ratio:g}x datasketch", "datasketch", ratio, "faster_by"),),
                )
            )  # fmt: skip
    found.append(
        Case(
            suite="dedup", name="dedup/images", sizes={"images": images}, device=device, dtype=dtype,
            prepare=lambda: _hashes(images), check=_check_hashes,
            bar=(Bar("colour and hash at least 2x those of the full image", "full_decode", 2.0, "faster_by"),),
        )
    )  # fmt: skip
    return found


def _missing(package: str) -> str | None:
    return None if importlib.util.find_spec(package) is not None else f"{package} not installed"


def _text(seed: int) -> str:
    return " ".join(" ".join(write_article(seed).texts).split()[:WORDS])


def _sketches(backend: Any, number: int) -> list[Contender]:
    """Signatures of the same texts, each from the text on; and canonical words alone."""
    texts: list[str] = []

    def fresh(seed: int) -> None:
        texts[:] = [_text(seed * number + k) for k in range(number)]

    finder = TextNearDuplicates(backend=backend)
    found = [Contender(OURS, lambda: finder.sketch(texts), fresh)]
    if (why := _missing("datasketch")) is not None:
        return [*found, Contender.left_out("datasketch", why)]
    make = importlib.import_module("datasketch").MinHash

    def sketch(text: str) -> Any:
        words = text.lower().split()
        runs = {" ".join(words[k : k + RUN_WORDS]).encode() for k in range(len(words) - RUN_WORDS + 1)}
        signature = make(num_perm=PLACES)
        signature.update_batch(runs)
        return signature.hashvalues

    return [*found, Contender("datasketch", lambda: [sketch(text) for text in texts], fresh)]


def _check_sketches(contenders: list[Contender]) -> None:
    """The signatures of one text are equal, and those of two have as many equal places as the texts share runs."""
    for contender in contenders:
        contender.fresh(CHECK_SEED)
        first, again = contender.run(), contender.run()
        if not all((one == other).all() for one, other in zip(first, again, strict=True)):
            raise AssertionError(f"{contender.name} gives a text two signatures")
        if abs(float((first[0] == first[1]).mean())) > 0.2:
            raise AssertionError(f"{contender.name} finds two texts alike that share nothing")


def _photograph(seed: int) -> bytes:
    """A JPEG of 900 x 660 with smooth shapes and some grain, of about 170 KB."""
    image = importlib.import_module("PIL.Image")
    draw = torch.Generator().manual_seed(seed)
    shapes = torch.rand(1, 3, 12, 16, generator=draw)
    smooth = torch.nn.functional.interpolate(shapes, size=(660, 900), mode="bicubic")[0]
    grained = (255 * smooth + 12 * torch.randn(smooth.shape, generator=draw)).clamp(0, 255).to(torch.uint8)
    file = io.BytesIO()
    image.fromarray(grained.permute(1, 2, 0).contiguous().numpy()).save(file, "JPEG", quality=85)
    return file.getvalue()


def _hashes(number: int) -> list[Contender]:
    files: list[bytes] = []
    look = SingleColour().look

    def ours(file: bytes) -> tuple[Any, Any]:
        small = small_image(file)
        return look(small), dhash(small)

    def fresh(seed: int) -> None:
        files[:] = [_photograph(seed * number + k) for k in range(number)]

    def full(file: bytes) -> tuple[Any, int]:
        """The whole image is decoded, once, and both are taken from it."""
        pillow = importlib.import_module("PIL.Image")
        decoded = pillow.open(io.BytesIO(file)).convert("RGB")
        found = dhash(decoded)
        small = decoded.resize((32, 32), pillow.Resampling.BOX)
        deviation = max(importlib.import_module("PIL.ImageStat").Stat(small).stddev)
        return deviation < 2, found if isinstance(found, int) else -1

    return [
        Contender(OURS, lambda: [ours(file) for file in files], fresh),
        Contender("full_decode", lambda: [full(file) for file in files], fresh),
    ]


def _check_hashes(contenders: list[Contender]) -> None:
    """Both see colours, and hashes that differ in some bits at most."""
    results = []
    for contender in contenders:
        contender.fresh(CHECK_SEED)
        results.append(contender.run())
    for (ours, one), (theirs, other) in zip(*results, strict=True):
        if ours is not None or theirs:
            raise AssertionError("a photograph was called a single colour")
        if not isinstance(one, int) or (one ^ other).bit_count() > 6:
            raise AssertionError(f"the hashes of one image are {one} and {other}")


def _searches(queries: int, rows: int, dim: int, dtype: str) -> list[Contender]:
    """The best of all rows for each query, beside the product that it is made of."""
    kind: torch.dtype = getattr(torch, dtype)
    sets = torch.nn.functional.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(0)), dim=1)
    search = EvaluationImages(torch.stack, {"set": sets}, dtype=kind, batch_size=4096)
    asked, table = torch.empty(queries, dim), sets.to(kind)

    def fresh(seed: int) -> None:
        asked.copy_(torch.randn(queries, dim, generator=torch.Generator().manual_seed(seed)))
        torch.nn.functional.normalize(asked, dim=1, out=asked)

    def found() -> Tensor:
        return torch.tensor([match.cosine for match in search.find(asked)])

    contenders: list[tuple[str, Callable[[], Tensor]]] = [
        (OURS, found), ("product", lambda: asked.to(kind) @ table.T),
    ]  # fmt: skip
    return [Contender(name, run, fresh, same_work=name == OURS) for name, run in contenders]


def _check_search(contenders: list[Contender]) -> None:
    """The best cosine is the largest of the product."""
    for contender in contenders:
        contender.fresh(CHECK_SEED)
    if len(contenders) > 1:
        ours, product = (contender.run() for contender in contenders)
        torch.testing.assert_close(ours, product.float().amax(1), atol=1e-2, rtol=1e-2)
