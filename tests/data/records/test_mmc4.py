"""Rows of MMC4: which image stands before which sentence, and the row back."""

from base64 import b64encode
from itertools import permutations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flamingo_blocks.data import ClipSegment, ImageSegment, InterleavedDocument, TextSegment
from flamingo_blocks.data.records import RecordError, best_assignment, from_mmc4, to_mmc4
from tests.document_strategies import drawn, files, metadata, same, texts, urls

README = {
    "url": "https://ex.com/",
    "text_list": ["S0.", "S1.", "S2."],
    "image_info": [
        {"image_name": "b9040a0dbb22.jpg", "raw_url": "https://ex.com/0.jpg", "matched_text_index": 2,
         "matched_sim": 0.2769, "face_detections": None},
        {"image_name": "db1c21bc8474.jpg", "raw_url": "https://ex.com/1.jpg", "matched_text_index": 1,
         "matched_sim": 0.3235, "face_detections": None},
    ],
    "similarity_matrix": [[0.2436, 0.3176, 0.2769], [0.2233, 0.3235, 0.2612]],
    "could_have_url_duplicate": 0,
}  # fmt: skip


def shown(document):
    """Texts, and of images what their address ends in."""
    return [segment.text if isinstance(segment, TextSegment) else segment.url[15:] for segment in document.segments]


@pytest.mark.parametrize("matching", ["assignment", "stored"])
def test_the_row_of_its_readme_is_read_in_the_order_of_sentences(matching):
    """Image 1 stands before S1 and image 0 before S2; a reader that keeps the order of the row swaps them."""
    document = from_mmc4(README, matching=matching)
    assert shown(document) == ["S0.", "1.jpg", "S1.", "0.jpg", "S2."]
    assert document.metadata["url"] == "https://ex.com/"
    assert to_mmc4(document) == README


@st.composite
def rows(draw, most=6):
    """Rows of up to six images and sentences, with and without bytes and stored places."""
    images, sentences = draw(st.integers(0, most)), draw(st.integers(1, most))
    fits = st.floats(-1, 1) | st.sampled_from([0.2, 0.3])  # ties too
    infos = []
    for number in range(images):
        info = {**draw(metadata), "number": number}
        info |= draw(st.sampled_from([{}, {"raw_url": f"https://ex.com/{number}"}, {"raw_url": None}]))
        info |= draw(st.sampled_from([{}, {"matched_text_index": draw(st.integers(0, sentences - 1))}]))
        info |= draw(st.just({}) | files.map(lambda data: {"image_base64": b64encode(data).decode()}))
        infos.append(info | draw(st.sampled_from([{}, {"image_base64": None}, {"image_base64": "AB=="}])))
    row = {
        "text_list": draw(st.lists(texts, min_size=sentences, max_size=sentences)),
        "image_info": infos,
        "similarity_matrix": [[draw(fits) for _ in range(sentences)] for _ in range(images)],
    }
    return {**row, **draw(metadata), **draw(st.sampled_from([{}, {"mmc4": {"a": 1}}]))}


options = st.fixed_dictionaries(
    {}, optional={"max_images": st.none() | st.integers(0, 4), "min_similarity": st.none() | st.floats(-1, 1)}
)


@given(rows(), options)
def test_reading_and_writing_a_row_gives_the_row(row, options):
    """With all that the document does not show: other fields, images that are left out, odd base64."""
    assert same(to_mmc4(from_mmc4(row, **options)), row)


@given(rows(), options)
def test_every_image_stands_before_its_sentence(row, options):
    """The texts joined are the sentences joined; images come by sentence, then by the order of the row; and image k of
    the document is the one that its place in the text was given, whatever the order of the row.
    """
    document = from_mmc4(row, **options)
    assert " ".join(s.text for s in document.segments if isinstance(s, TextSegment)) == " ".join(row["text_list"])
    arrived = [k for k, info in enumerate(row["image_info"]) if info.get("image_base64") is not None]
    arrived = arrived or list(range(len(row["image_info"])))
    chosen = best_assignment([row["similarity_matrix"][k] for k in arrived])
    pairs = []
    for k, column in zip(arrived, chosen, strict=True):
        line = row["similarity_matrix"][k]
        place = line.index(max(line)) if column is None else column
        if options.get("min_similarity") is None or line[place] >= options["min_similarity"]:
            pairs.append((place, k))
    wanted = sorted(pairs)[: options.get("max_images")]
    assert [image.metadata["number"] for image in document.media] == [k for _, k in wanted]
    for place, k in wanted:  # what stands before an image are the sentences before its own
        at = next(n for n, s in enumerate(document.segments) if getattr(s, "metadata", {}).get("number") == k)
        before = [s.text for s in document.segments[:at] if isinstance(s, TextSegment)]
        assert " ".join(before) == " ".join(row["text_list"][:place])


@given(st.integers(0, 6), st.integers(1, 6), st.data())
def test_the_sum_of_the_matching_is_the_greatest(rows, columns, data):
    """As trying every one tells, up to six by six; each column once, and as many rows as there can be."""
    number = st.floats(-1, 1) | st.sampled_from([0.0, 0.5])
    scores = [[data.draw(number) for _ in range(columns)] for _ in range(rows)]
    found = best_assignment(scores)
    taken = [column for column in found if column is not None]
    assert len(found) == rows
    assert len(taken) == len(set(taken)) == min(rows, columns)
    places = range(max(rows, columns))
    best = max(
        sum(scores[row][column] for row, column in enumerate(order[:rows]) if column < columns)
        for order in permutations(places)
    ) if rows else 0  # fmt: skip
    assert sum(scores[row][column] for row, column in enumerate(found) if column is not None) == pytest.approx(best)


@given(st.integers(1, 25), st.integers(1, 25), st.integers(0, 2**32 - 1))
def test_the_sum_is_that_of_scipy(rows, columns, seed):
    """At sizes of real rows."""
    numpy = pytest.importorskip("numpy")
    scipy = pytest.importorskip("scipy.optimize")
    scores = numpy.random.default_rng(seed).random((rows, columns)).round(2)
    wanted = scores[scipy.linear_sum_assignment(scores, maximize=True)].sum()
    found = best_assignment(scores.tolist())
    assert sum(scores[row, column] for row, column in enumerate(found) if column is not None) == pytest.approx(wanted)


def test_images_that_are_left_over_take_their_best_sentence():
    """More images than sentences: several stand before one sentence, in the order of the row."""
    infos = [{"raw_url": f"https://ex.com/{k}"} for k in range(3)]
    row = {"text_list": ["a", "b"], "image_info": infos, "similarity_matrix": [[0.1, 0.9], [0.8, 0.7], [0.2, 0.6]]}
    assert shown(from_mmc4(row)) == ["1", "a", "0", "2", "b"]
    assert shown(from_mmc4(row, max_images=2)) == ["1", "a", "0", "b"]
    assert shown(from_mmc4(row, min_similarity=0.75)) == ["1", "a", "0", "b"]
    assert to_mmc4(from_mmc4(row, max_images=1)) == row


def test_images_of_openflamingos_files_are_read_to_bytes():
    """Images that did not arrive take no part in the matching, and are given back."""
    row = {
        "text_list": ["a", "b"],
        "image_info": [{"raw_url": "u0", "image_base64": "AAE="}, {"raw_url": "u1"}],
        "similarity_matrix": [[0.1, 0.2], [0.1, 0.9]],
    }
    document = from_mmc4(row)
    assert document.segments == (TextSegment("a"), ImageSegment(url="u0", data=b"\0\1"), TextSegment("b"))
    assert to_mmc4(document) == row


new_images = drawn(ImageSegment, url=st.none() | urls, data=st.none() | files, alt=st.none() | texts)
# Sentences with the images before them: two texts side by side would be read as one.
sentences = st.lists(st.tuples(st.lists(new_images, min_size=1, max_size=2), texts), max_size=3)


@given(sentences, metadata)
def test_a_document_of_ours_becomes_a_row_that_is_read_again(parts, about):
    """Sentences with their images before them, by the stored places, where every image has data or none has."""
    images = [image for before, _ in parts for image in before]
    assume(len({image.data is None for image in images}) < 2)
    document = InterleavedDocument.from_parts([s for before, text in parts for s in (*before, text)], metadata=about)
    assert from_mmc4(to_mmc4(document), matching="stored") == document


@pytest.mark.parametrize(
    ("change", "reason", "says"),
    [
        ({"text_list": "S0."}, "field", "field text_list: is 'S0.' of type str, wanted a list"),
        ({"text_list": ["S0.", None, "S2."]}, "field", "field text_list[1]: is missing, wanted a text"),
        ({"image_info": [{}]}, "lists", "field similarity_matrix: has 2 rows, image_info 1"),
        ({"image_info": [{}, 7]}, "field", "field image_info[1]: is 7 of type int, wanted an object"),
        ({"similarity_matrix": [[1, 2, 3], [1, 2]]}, "lists", "field similarity_matrix[1]: has 2 values, text_list 3"),
        (
            {"similarity_matrix": [[1, 2, "3"], [1, 2, 3]]},
            "field",
            "similarity_matrix[0]: is '3' of type str, wanted a",
        ),
        (
            {"similarity_matrix": [[1, 2, float("nan")], [1, 2, 3]]},
            "field",
            "is nan of type float, wanted a similarity",
        ),
        ({"image_info": [{"image_base64": "A"}, {}]}, "base64", "field image_info[0].image_base64: is no base64"),
    ],
)
def test_a_broken_row_is_told(change, reason, says):
    """The field is named, and what was found in it."""
    with pytest.raises(RecordError) as told:
        from_mmc4({**README, **change})
    assert told.value.reason == reason
    assert says in str(told.value)


@pytest.mark.parametrize("place", [3, -1, 1.5, "x", True, None, "99999999999999999999"])
def test_a_stored_place_outside_of_the_sentences_is_told(place):
    """And one that is no number."""
    row = {"text_list": ["a", "b", "c"], "image_info": [{"matched_text_index": place}]}
    with pytest.raises(RecordError, match=r"image_info\[0\].matched_text_index: is .*wanted a whole number below 3"):
        from_mmc4(row, matching="stored")


@pytest.mark.parametrize("place", [1, "1", 1.0])
def test_a_stored_place_may_be_written_as_text(place):
    """It is a number for the reader, and as it was for the writer."""
    row = {"text_list": ["a", "b"], "image_info": [{"raw_url": "https://ex.com/1", "matched_text_index": place}]}
    document = from_mmc4(row, matching="stored")
    assert shown(document) == ["a", "1", "b"]
    assert same(to_mmc4(document), row)


def test_a_matrix_that_would_take_minutes_is_refused():
    """Its size is bounded."""
    row = {"text_list": ["a"] * 1024, "image_info": [{}] * 1024, "similarity_matrix": [[0.0] * 1024] * 1024}
    with pytest.raises(RecordError, match="1024 images and 1024 sentences, wanted 262144"):
        from_mmc4(row)


def test_a_document_that_has_changed_is_not_written_as_its_row():
    """The row would say what is no longer so."""
    document = from_mmc4(README)
    for changed in (document.segments[:-1], (*document.segments[:-1], TextSegment("S2!!")), document.segments[2:]):
        with pytest.raises(ValueError, match="it has changed since"):
            to_mmc4(InterleavedDocument(changed, document.metadata))


def test_what_a_row_cannot_hold_is_refused(without_shape_checks):
    """A clip, an image at the end, a picture that is no file, one image of two with data, and an unknown matching."""
    for parts, says in (
        ([ClipSegment(url="u"), "a"], "has a clip"),
        (["a", ImageSegment(url="u")], "an image stands after the last text"),
        ([ImageSegment(data=7), "a"], "data of an image is of type int"),
        ([ImageSegment(data=b"7"), "a", ImageSegment(url="u"), "b"], "1 of 2 images have data"),
    ):
        with pytest.raises(ValueError, match=says):
            to_mmc4(InterleavedDocument.from_parts(parts))
    with pytest.raises(ValueError, match="matching is 'best'"):
        from_mmc4(README, matching="best")


@pytest.mark.parametrize(
    "form",
    (3, {"sentences": 3}, {"sentences": ["a"]}, {"shown": [None]}, {"unmatched": [[]]}, {"left_out": [3]},
     {"left_out": [[0, 1]]}, {"left_out": [["a", {}]]}),
)  # fmt: skip
def test_what_others_wrote_under_our_name_is_refused(form):
    """By the field, as a record that is broken."""
    document = InterleavedDocument.from_parts(["a"], metadata={"mmc4": form})
    with pytest.raises(RecordError, match="mmc4"):
        to_mmc4(document)
