"""Images of evaluation sets, which no model that is evaluated may have seen."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from flamingo_blocks._optional import require
from flamingo_blocks.data.dedup.parts import Part, without
from flamingo_blocks.data.documents import ImageSegment, InterleavedDocument
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.filtered import Filtered

Embed = Callable[[Sequence[Any]], Any]
REASON = "evaluation_"
ROWS_AT_A_TIME = 1 << 16  # images of the sets that a query is compared with at a time
QUERIES_AT_A_TIME = 256


@dataclass(frozen=True)
class EvaluationMatch:
    """The image of the evaluation sets that is most like an image.

    Args:
        set: Name of its set.
        index: Its place in that.
        cosine: How like it is: 1 for the same direction.

    Example:
        >>> embed = lambda images: torch.tensor([[float(number), 1.0] for number in images])
        >>> unseen = EvaluationImages(embed, {"coco": [3, 7], "flickr": [0]}, threshold=0.99)
        >>> match = unseen.find([8])[0]  # of any image, however far
        >>> match.set, match.index, round(match.cosine, 3)
        ('coco', 1, 1.0)
    """

    set: str
    index: int
    cosine: float


class EvaluationImages:
    """Find training images that are in an evaluation set, or nearly, by exact search among embeddings.

    Each image is compared with every image of all sets. What is as near as `threshold` is told by its set, and goes.
    It is a filter of documents, and can stand in a `FilterChain`.

    Args:
        embed: Some images in, `[images, dim]` out, as a tensor or an array. A model that was made to find copies tells
            what was cropped or mirrored; SSCD's `sscd_disc_mixup` at 0.75 is one. It gets what the documents and sets
            hold as images, such as the bytes of their files.
        sets: Images of each set, by its name.
        threshold: Least cosine of what goes. It depends on the model: look at some matches before you trust one.
        scope: `"document"` drops a document that has such an image, as for pairs of an image and a text; `"item"`
            takes the image out of it.
        batch_size: Images that `embed` gets at a time.
        device: Where the embeddings are compared.
        dtype: `torch.bfloat16` searches in half the memory, and faster where the machine has it. The cosine of what
            was found is that of the rounded vectors.
        backend: `"torch"`, or `"faiss"` for its flat index; both are exact.

    Raises:
        ValueError: If an argument is none of these, if there is no set, if a set is empty, or if what `embed` gives is
            no row of finite numbers for each image, not all zeros, as wide as the others.
        MissingDependencyError: If `backend="faiss"` and it is not installed.

    Example:
        >>> embed = lambda images: torch.tensor([[float(number), 1.0] for number in images])
        >>> unseen = EvaluationImages(embed, {"coco": [3, 7], "flickr": [0]}, threshold=0.99)
        >>> [(match.set, match.index) for match in unseen.find([8, 0])]
        [('coco', 1), ('flickr', 0)]
        >>> unseen(InterleavedDocument.from_parts([ImageSegment(data=8), "A caption."]))
        Dropped(reason='evaluation_coco', detail='as image 1 of it by 1.000')
        >>> unseen(InterleavedDocument.from_parts([ImageSegment(data=-5), "A caption."])).text
        'A caption.'

    Source:
        Flamingo (arXiv 2204.14198), section A.3.4: ALIGN and LTIP were cleaned of the images of ImageNet, COCO, OK-VQA,
        VQAv2, Flickr30k and VisDial; M3W was not.
    """

    def __init__(
        self,
        embed: Embed,
        sets: Mapping[str, Iterable[Any]],
        *,
        threshold: float = 0.75,
        scope: Literal["document", "item"] = "document",
        batch_size: int = 256,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        backend: Literal["torch", "faiss"] = "torch",
    ) -> None:
        _check(threshold, scope, batch_size, dtype, backend)
        self.embed, self.threshold, self.scope, self.batch_size = embed, threshold, scope, batch_size
        self.device, self.dtype = torch.device(device), dtype
        self.dim: int | None = None
        reasons = tuple(f"{REASON}{name}" for name in sets)
        self.reasons = reasons if scope == "document" else ()
        self.item_reasons = reasons if scope == "item" else ()
        found = {name: list(self._batches(images, f"set {name!r}")) for name, images in sets.items()}
        if not found or not all(found.values()):
            empty = [name for name, batches in found.items() if not batches]
            raise ValueError(f"sets has no image in {empty}" if found else "sets is empty: there is nothing to find")
        self._places = [(name, index) for name, batches in found.items() for index in range(sum(map(len, batches)))]
        rows = torch.cat([batch for batches in found.values() for batch in batches]).to(self.dtype)
        self._search = _faiss_search(rows) if backend == "faiss" else _torch_search(rows.to(self.device))

    def find(self, images: Iterable[Any]) -> list[EvaluationMatch]:
        """The most like image of the sets for each image, however unlike.

        Args:
            images: Any number, as `embed` takes them.

        Raises:
            ValueError: If what `embed` gives is no row of finite numbers for each image, not all zeros, as wide as
                those of the sets.
        """
        found = []
        for batch in self._batches(images, "the call"):
            for first in range(0, len(batch), QUERIES_AT_A_TIME):
                cosines, rows = self._search(batch[first : first + QUERIES_AT_A_TIME].to(self.dtype))
                for cosine, row in zip(cosines.tolist(), rows.tolist(), strict=True):
                    name, index = self._places[row]
                    found.append(EvaluationMatch(name, index, cosine))
        return found

    def __call__(self, document: InterleavedDocument) -> InterleavedDocument | Dropped:
        """Keep a document, all or what is left of it, or say of which set it has an image.

        Args:
            document: Its images that are not fetched yet are not looked at.
        """
        return self.filter_items(document).document

    def filter_items(self, document: InterleavedDocument) -> Filtered:
        """What is left of a document, and of which set each image is that was taken out.

        Args:
            document: Its images that are not fetched yet are not looked at.
        """
        fetched = {
            number: segment.data
            for number, segment in enumerate(document.segments)
            if isinstance(segment, ImageSegment) and segment.data is not None
        }
        gone = []
        why = []
        for number, match in zip(fetched, self.find(fetched.values()), strict=True):
            if match.cosine >= self.threshold:
                why.append(Dropped(f"{REASON}{match.set}", f"as image {match.index} of it by {match.cosine:.3f}"))
                if self.scope == "document":
                    return Filtered(why[0])
                gone.append(Part(number, 0, 0))
        return Filtered(without(document, gone) if gone else document, tuple(why))

    def _batches(self, images: Iterable[Any], of: str) -> Iterator[Float[Tensor, "images dim"]]:
        """Embeddings of length 1."""
        images = iter(images)
        while batch := list(islice(images, self.batch_size)):
            with torch.no_grad():
                found = torch.as_tensor(self.embed(batch))
            if found.ndim != 2 or len(found) != len(batch) or not found.shape[1]:
                raise ValueError(
                    f"embed gave {list(found.shape)} for {len(batch)} images of {of}, wanted a row for each"
                )
            self.dim = found.shape[1] if self.dim is None else self.dim
            if found.shape[1] != self.dim:
                raise ValueError(f"embed gave rows of {found.shape[1]} for images of {of}, wanted {self.dim} as before")
            found = found.detach().to("cpu", torch.float32)
            lengths = found.norm(dim=1)
            bad = torch.nonzero(~lengths.isfinite() | (lengths == 0)).flatten()
            if len(bad):
                what = "of zeros" if lengths[bad[0]] == 0 else "with NaN or infinity"
                raise ValueError(f"embed gave a row {what} for image {int(bad[0])} of a batch of {of}")
            yield found / lengths[:, None]


def _check(threshold: float, scope: str, batch_size: int, dtype: torch.dtype, backend: str) -> None:
    if not -1 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}, wanted a cosine from -1 to 1")
    if scope not in ("document", "item"):
        raise ValueError(f"scope is {scope!r}, wanted 'document' or 'item'")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, wanted 1 or more")
    if backend not in ("torch", "faiss"):
        raise ValueError(f"backend is {backend!r}, wanted 'torch' or 'faiss'")
    if backend == "faiss" and dtype != torch.float32:
        raise ValueError(f"dtype is {dtype}, and faiss compares in float32; take that, or backend='torch'")


Search = Callable[[Tensor], tuple[Tensor, Tensor]]


def _torch_search(rows: Float[Tensor, "rows dim"]) -> Search:
    def search(queries: Tensor) -> tuple[Tensor, Tensor]:
        queries = queries.to(rows.device)
        best = torch.full((len(queries),), -torch.inf, dtype=rows.dtype, device=rows.device)
        place = torch.zeros(len(queries), dtype=torch.long, device=rows.device)
        for first in range(0, len(rows), ROWS_AT_A_TIME):
            cosines, found = (queries @ rows[first : first + ROWS_AT_A_TIME].T).max(dim=1)
            better = cosines > best
            best, place = torch.where(better, cosines, best), torch.where(better, found + first, place)
        cosines = (queries.float() * rows[place].float()).sum(1)  # a product in half precision rounds its result too
        return cosines, place

    return search


def _faiss_search(rows: Float[Tensor, "rows dim"]) -> Search:
    package = require("faiss", used_by="EvaluationImages(backend='faiss')", extra="faiss")
    index = package.IndexFlatIP(rows.shape[1])
    index.add(rows.numpy())

    def search(queries: Tensor) -> tuple[Tensor, Tensor]:
        cosines, found = index.search(queries.numpy(), 1)
        return torch.from_numpy(cosines[:, 0]), torch.from_numpy(found[:, 0])

    return search
