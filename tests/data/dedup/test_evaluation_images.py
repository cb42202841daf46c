"""Images of evaluation sets are found among training images, counted by set, and removed."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flamingo_blocks.data import ImageSegment, InterleavedDocument
from flamingo_blocks.data.dedup import EvaluationImages, RepeatedImages, evaluation_images
from flamingo_blocks.data.filters import FilterChain, FilterCounts
from tests.data.dedup.pictures import COPIES, digits, file_of, photographs


def by_pixels(files):
    """A stub of a model: 16 x 16 pixels without their mean, and the same mirrored, so that mirrored ones are alike."""
    small = [
        np.asarray(Image.open(io.BytesIO(file)).convert("L").resize((16, 16), Image.Resampling.BOX)) for file in files
    ]
    pixels = torch.from_numpy(np.stack(small)).float()
    pixels = pixels + pixels.flip(2)
    return pixels.flatten(1) - pixels.flatten(1).mean(1, keepdim=True) + 0.01


def as_they_are(rows):
    return torch.tensor(rows, dtype=torch.float32)


@pytest.fixture(scope="module")
def unseen():
    """Two sets: half of the photographs, and some digits."""
    names = sorted(photographs())[::2]
    sets = {
        "coco": [file_of(photographs()[name], quality=90) for name in names],
        "digits": (file_of(digit) for digit in digits(20)),
    }
    return names, EvaluationImages(by_pixels, sets, threshold=0.95, batch_size=7)


@pytest.mark.parametrize(("copy", "least"), [*[(copy, 1.0) for copy in COPIES if copy != "cropped"], ("cropped", 0.2)])
def test_planted_copies_are_found(unseen, copy, least):
    """Every one, in its place, also mirrored; those that lost a margin as far as pixels tell."""
    names, search = unseen
    found = search.find(COPIES[copy](photographs()[name]) for name in names)
    right = [match.set == "coco" and match.index == index and match.cosine >= 0.95 for index, match in enumerate(found)]
    assert np.mean(right) >= least


def test_other_images_are_not_found(unseen):
    """The photographs that are in no set."""
    names, search = unseen
    others = [file_of(image) for name, image in photographs().items() if name not in names]
    assert max(match.cosine for match in search.find(others)) < 0.95


@given(st.integers(1, 40), st.integers(0, 12), st.integers(1, 5), st.integers(1, 9), st.integers(0, 9))
def test_the_best_is_that_of_a_naive_search(number, queries, dim, batch, seed):
    """Whatever the sizes of batches and pieces."""
    random = np.random.default_rng(seed)
    rows, asked = random.normal(size=(number, dim)).tolist(), random.normal(size=(queries, dim)).tolist()
    sets = {"a": rows[: number // 2 + 1], "b": rows[number // 2 + 1 :] or rows[:1]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation_images, "ROWS_AT_A_TIME", 3)
        patch.setattr(evaluation_images, "QUERIES_AT_A_TIME", 2)
        found = EvaluationImages(as_they_are, sets, batch_size=batch).find(asked)
    unit = {name: [np.array(row) / np.linalg.norm(row) for row in some] for name, some in sets.items()}
    assert len(found) == queries
    for match, query in zip(found, asked, strict=True):
        cosines = {name: np.array(some) @ (np.array(query) / np.linalg.norm(query)) for name, some in unit.items()}
        assert match.cosine == pytest.approx(max(map(max, cosines.values())), abs=1e-5)
        assert cosines[match.set][match.index] == pytest.approx(match.cosine, abs=1e-5)


def test_half_precision_finds_the_same():
    """Where the best is best by more than its rounding."""
    rows = torch.nn.functional.normalize(torch.randn(500, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    asked = rows[::7] + 0.02 * torch.randn(72, 64, generator=torch.Generator().manual_seed(1))
    search = EvaluationImages(torch.stack, {"set": rows}, dtype=torch.bfloat16)
    found = search.find(asked)
    assert [match.index for match in found] == list(range(0, 500, 7))
    exact = torch.nn.functional.cosine_similarity(asked, rows[::7])
    torch.testing.assert_close(torch.tensor([match.cosine for match in found]), exact, atol=1e-2, rtol=0)


def test_faiss_finds_the_same():
    """It is exact as well."""
    pytest.importorskip("faiss", reason="faiss is an optional backend")
    rows = np.random.default_rng(0).normal(size=(300, 16)).tolist()
    plain, faiss = (EvaluationImages(as_they_are, {"a": rows}, backend=name) for name in ("torch", "faiss"))
    asked = np.random.default_rng(1).normal(size=(50, 16)).tolist()
    assert [match.index for match in plain.find(asked)] == [match.index for match in faiss.find(asked)]


def images(*rows):
    return [ImageSegment(data=row) for row in rows]


def test_documents_are_dropped_for_their_set():
    """By the first image that is in one; the reason names the set, and is declared."""
    search = EvaluationImages(as_they_are, {"coco": [[1.0, 0.0]], "flickr": [[0.0, 2.0], [-3.0, 0.0]]}, threshold=0.9)
    assert (search.reasons, search.item_reasons) == (("evaluation_coco", "evaluation_flickr"), ())
    other, seen = images([1.0, 1.0], [-2.0, 0.1])
    kept = InterleavedDocument.from_parts([other, "a caption", ImageSegment(url="https://ex.com/1.jpg")])
    assert search(kept) is kept
    found = search(InterleavedDocument.from_parts([other, "a caption", seen]))
    assert (found.reason, found.detail) == ("evaluation_flickr", "as image 1 of it by 0.999")


def test_images_are_taken_out_and_counted_by_set():
    """Twice is once."""
    sets = {"coco": [[1.0, 0.0]], "flickr": [[0.0, 2.0]]}
    search = EvaluationImages(as_they_are, sets, threshold=0.9, scope="item")
    one, two, three, kept = images([5.0, 0.0], [0.0, 1.0], [0.1, 4.0], [1.0, -1.0])
    result = search.filter_items(InterleavedDocument.from_parts([one, "x", two, "y", kept, three]))
    assert result.document == InterleavedDocument.from_parts(["x\n\ny", kept])
    assert [gone.reason for gone in result.removed] == ["evaluation_coco", "evaluation_flickr", "evaluation_flickr"]
    assert search(result.document) is result.document
    assert (search.reasons, search.item_reasons) == ((), ("evaluation_coco", "evaluation_flickr"))


def test_filters_of_duplicates_stand_in_a_chain():
    """What they take out is counted like what other filters do."""
    sets = {"coco": [[1.0, 0.0]]}
    seen, kept = images([5.0, 0.0], [1.0, -1.0])
    logo = ImageSegment(url="https://ex.com/logo.png")
    chain = FilterChain([RepeatedImages(), EvaluationImages(as_they_are, sets, threshold=0.9, scope="item")])
    assert (chain.reasons, chain.item_reasons) == ((), ("repeated_image", "evaluation_coco"))
    counts = FilterCounts()
    [left] = chain.run([InterleavedDocument.from_parts([logo, "x", seen, "y", logo, kept])], counts)
    assert left == InterleavedDocument.from_parts([logo, "x\n\ny", kept])
    assert counts.items == {"repeated_image": 1, "evaluation_coco": 1, "kept": 2}


@pytest.mark.parametrize(
    ("embed", "said"),
    [
        (lambda rows: torch.ones(len(rows)), r"embed gave \[2\] for 2 images of set 'a', wanted a row for each"),
        (lambda rows: torch.ones(1, 3), r"embed gave \[1, 3\] for 2 images"),
        (lambda rows: torch.ones(len(rows), 0), r"embed gave \[2, 0\] for 2 images"),
        (
            lambda rows: torch.tensor([[1.0, 0.0], [float("nan"), 0.0]]),
            "a row with NaN or infinity for image 1 of a batch",
        ),
        (lambda rows: torch.tensor([[float("inf")], [1.0]]), "a row with NaN or infinity for image 0"),
        (lambda rows: np.array([[1.0, 0.0], [0.0, 0.0]]), "a row of zeros for image 1 of a batch of set 'a'"),
        (
            lambda rows: torch.ones(len(rows), int(rows[0])),
            "embed gave rows of 4 for images of the call, wanted 3 as before",
        ),
    ],
)
def test_wrong_embeddings_are_told(embed, said):
    """Their shape, numbers that are none, and rows of zeros, with the image."""
    with pytest.raises(ValueError, match=said):
        EvaluationImages(embed, {"a": [3, 3]}).find([4])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sets": {}}, "sets is empty"),
        ({"sets": {"a": [[1.0]], "b": []}}, r"sets has no image in \['b'\]"),
        ({"threshold": 75}, "threshold is 75, wanted a cosine"),
        ({"scope": "page"}, "scope is 'page', wanted 'document' or 'item'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"backend": "annoy"}, "backend is 'annoy', wanted 'torch' or 'faiss'"),
        ({"backend": "faiss", "dtype": torch.bfloat16}, "dtype is torch.bfloat16, and faiss compares in float32"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_slips_are_told(options, said):
    """With the value and what was wanted."""
    with pytest.raises(ValueError, match=said):
        EvaluationImages(as_they_are, **{"sets": {"a": [[1.0]]}, **options})
