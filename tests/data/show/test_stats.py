"""What many documents are like, counted."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flamingo_blocks.data import ClipSegment, Dropped, ImageSegment, InterleavedDocument, TextSegment
from flamingo_blocks.data.stats import (
    DocumentStats,
    FrequentNames,
    Histogram,
    RepeatedHashes,
    document_hash,
    document_stats,
    format_stats,
)
from tests.data.filters.test_image_gate import file_of, noise
from tests.data.show.test_hostile_documents import metadata, parts

PNG = file_of(Image.new("RGB", (80, 70)))
FILES = {"none": None, "image": PNG, "page": b"<html>", "pixels": torch.zeros(3, 2, 2), "name": "cat.jpg"}
files = st.sampled_from(sorted(FILES)).map(lambda name: FILES[name])
urls = st.sampled_from([None, "https://a.com/x", "http://B.com:80/", "http://[bad", "no address", ""])
images = st.builds(ImageSegment, url=urls, data=files, alt=st.sampled_from([None, "", " ", "a cat"]))
clips = st.builds(ClipSegment, url=urls, data=files)
texts = st.text(st.sampled_from("ab \n"), max_size=8).map(TextSegment)
# Arguments, not the class: while tests run its annotations are checked, which draws random numbers.
documents = st.tuples(st.lists(texts | images | clips, max_size=5).map(tuple), st.fixed_dictionaries({"url": urls}))
records = st.lists(documents | st.sampled_from(["too_large", "depth"]), max_size=6)


def built(drawn):
    return [Dropped(one) if isinstance(one, str) else InterleavedDocument(*one) for one in drawn]


def identify(text):
    return ("de" if "b" in text else "en"), 0.9


@given(records, records)
def test_stats_of_halves_add_up(first, second):
    """To those of the whole, in every figure; nothing added changes nothing."""
    first, second = built(first), built(second)
    halves = [document_stats(half, identify=identify) for half in (first, second)]
    whole = document_stats(first + second, identify=identify)
    assert halves[0] + halves[1] == whole
    assert whole + DocumentStats() == whole
    assert (halves[1] + halves[0]).to_json() == whole.to_json()


@given(records, st.randoms(use_true_random=False))
def test_the_order_of_documents_does_not_matter(found, random):
    """And the stats are plain values."""
    found = built(found)
    shuffled = random.sample(found, len(found))
    figures = document_stats(found, identify=identify).to_json()
    assert document_stats(iter(shuffled), identify=identify).to_json() == figures
    assert json.loads(json.dumps(figures)) == figures


@given(records)
def test_figures_are_what_one_counts_by_hand(found):
    """One by one."""
    found = built(found)
    kept = [record.merged() for record in found if not isinstance(record, Dropped)]
    stats = document_stats(found)
    runs = [one.text for record in kept for one in record.segments if isinstance(one, TextSegment)]
    items = [item for record in kept for item in record.media]
    assert stats.documents == len(kept)
    assert sum(stats.dropped.values()) == len(found) - len(kept)
    assert (stats.texts, stats.characters.total) == (len(runs), sum(map(len, runs)))
    assert stats.words.total == sum(len(run.split()) for run in runs)
    assert stats.images == sum(isinstance(item, ImageSegment) for item in items)
    assert stats.images + stats.clips == len(items)
    assert stats.with_alt == sum(item.alt == "a cat" for item in items)
    assert stats.file_bytes.total == sum(len(item.data) for item in items if isinstance(item.data, bytes))
    assert sum(stats.formats.values()) == stats.images
    assert sum(stats.items_per_document.values()) == stats.documents
    assert stats.duplicates == len(kept) - len({document_hash(record) for record in kept})
    assert not stats.languages


def test_files_are_looked_at_by_their_headers():
    """Formats and sizes; what is broken has its reason, what is cut off still has a header."""
    data = [PNG, file_of(noise(300, 200), "JPEG")[:3000], b"<html>", None, Image.new("L", (9, 9))]
    stats = document_stats([InterleavedDocument.from_parts([ImageSegment(data=one) for one in data])])
    assert stats.formats == {"PNG": 1, "JPEG": 1, "image_unreadable": 1, "not fetched": 1, "picture": 1}
    assert sorted(stats.widths.counts) == [80, 300]
    assert sorted(stats.heights.counts) == [70, 200]


@pytest.mark.parametrize(
    ("url", "item", "host"),
    [("https://Ex.com:8080/a", "https://cdn.net/", "ex.com"), (None, "https://cdn.net/x.jpg", "cdn.net"),
     ("http://[bad", "http://[bad", None), (7, None, None), ("no address", None, None)],
)  # fmt: skip
def test_hosts_are_those_of_documents(url, item, host):
    """Or of their first image where they have none, as pairs."""
    document = InterleavedDocument.from_parts([ImageSegment(url=item)], metadata={"url": url})
    assert document_stats([document]).domains.counts == ({host: 1} if host else {})


def test_documents_by_the_number_of_their_images():
    """One by one up to five, then in steps."""
    numbers = [0, 1, 1, 5, 6, 10, 11, 20, 21, 50, 51, 100, 101, 500]
    stats = document_stats(InterleavedDocument.from_parts([ImageSegment()] * number) for number in numbers)
    assert stats.items_per_document == {
        "0": 1, "1": 2, "2": 0, "3": 0, "4": 0, "5": 1, "6-10": 2, "11-20": 2, "21-50": 2, "51-100": 2, "101+": 2,
    }  # fmt: skip


@given(st.lists(st.integers(0, 10**9), max_size=30), st.lists(st.integers(0, 10**9), max_size=30))
def test_histograms_keep_numbers_closely(first, second):
    """Small ones exactly, large ones to 0.05 %; their sum exactly; and two add up to one of all."""
    both = Histogram(first) + Histogram(second)
    assert both == Histogram(first + second)
    assert both.total == sum(first + second)
    found, wanted = both.quantiles((0, 0.5, 1)), sorted(first + second)
    if wanted:
        exact = [wanted[0], wanted[(len(wanted) + 1) // 2 - 1], wanted[-1]]
        for near, number in zip(found, exact, strict=True):
            assert number * (1 - 2**-11) <= near <= number
            assert number >= 4096 or near == number
    else:
        assert found == []


def test_histograms_have_a_bound():
    """However many numbers there are."""
    assert len(Histogram(range(0, 2**22, 97)).counts) <= 4096 + 2048 * 10


names = st.lists(st.sampled_from("abcdefghij"), max_size=60)


@given(names, names, st.integers(1, 12))
def test_frequent_names_miss_no_more_than_they_say(first, second, room):
    """Beyond their room too, and added as well as met; within it nothing is missed."""
    true = Counter(first + second)
    added = FrequentNames(first, max_names=room) + FrequentNames(second, max_names=room)
    for found in (added, FrequentNames(first + second, max_names=room)):
        assert len(found.counts) < 2 * room
        assert all(true[name] - found.max_missed <= found.counts.get(name, 0) <= true[name] for name in true)
        assert found.max_missed <= len(first + second) / (room + 1)
        assert set(found.counts) <= set(true)
        if len(true) <= room:
            assert found.counts == true
            assert found.most_common(2) == sorted(true.items(), key=lambda pair: (-pair[1], pair[0]))[:2]


hashes = st.lists(st.integers(0, 40), max_size=60)


@given(hashes, hashes, st.integers(1, 50))
def test_repeats_are_a_sample_by_the_smallest_hashes(first, second, room):
    """Each with its true count, whatever the order and however they were split; exact while there is room."""
    true = Counter(first + second)
    kept = {one: true[one] for one in sorted(true)[:room]}
    added = RepeatedHashes(first, max_hashes=room) + RepeatedHashes(second, max_hashes=room)
    for found in (added, RepeatedHashes(first + second, max_hashes=room)):
        assert found.counts == kept
        assert found.is_exact == (len(true) <= room)
        if found.is_exact:
            assert found.repeats(len(first + second)) == len(first + second) - len(true)


def test_hashes_are_met_several_times_at_once():
    """As those of another count are."""
    found = RepeatedHashes([5])
    found.add(5, 2)
    found.add(7, 3)
    assert found.counts == {5: 3, 7: 3}


def test_repeats_beyond_the_room_are_estimated():
    """From a sample that leans to no side."""
    random = np.random.default_rng(0)
    different = random.integers(0, 2**63, 8000).tolist()
    found = RepeatedHashes(different + different[:4000], max_hashes=1500)
    assert not found.is_exact
    assert found.repeats(12_000) == pytest.approx(4000, rel=0.05)


FRAME = Image.new("RGB", (2, 2), "red")
DIFFERENT = [
    [], ["a"], ["b"], ["aimageaddress1"], ["a", ImageSegment(url="1")], [ImageSegment(url="1"), "a"],
    [ImageSegment(url="2"), "a"],
    [ClipSegment(url="1"), "a"], [ImageSegment(data=b"1"), "a"], [ImageSegment(data=b"a")], [ImageSegment(data=b"a1")],
    [ImageSegment(data=torch.zeros(2, 3))], [ImageSegment(data=torch.zeros(3, 2))],
    [ImageSegment(data=torch.ones(3, 2))],
    [ImageSegment(data=FRAME)], [ImageSegment(data=Image.new("RGB", (4, 1), "red"))], [ImageSegment(data="cat.jpg")],
    [ImageSegment(data=np.zeros((2, 3)))], [ImageSegment(data=np.zeros((3, 2)))], [ClipSegment(data=[FRAME])],
    [ClipSegment(data=[FRAME, FRAME])], [ImageSegment(data=b"a"), ImageSegment(data=b"1")],
]  # fmt: skip


def test_what_differs_has_another_hash():
    """In text, order, kind, address, and data of every kind."""
    found = [document_hash(InterleavedDocument.from_parts(one)) for one in DIFFERENT]
    assert len(set(found)) == len(DIFFERENT)
    assert found == [document_hash(InterleavedDocument.from_parts(one)) for one in DIFFERENT]


def test_what_does_not_count_does_not_differ():
    """Metadata, descriptions, and the address of what is there."""
    one = InterleavedDocument.from_parts(["a", "b", ImageSegment(url="1", data=b"x", alt="c")], metadata={"url": "x"})
    other = InterleavedDocument.from_parts(["ab", ImageSegment(url="2", data=b"x", metadata={"d": 1})])
    assert document_hash(one) == document_hash(other)


def test_stats_are_a_table():
    """Of what there is."""
    pair = ImageSegment(url="https://ex.com/1.png", data=PNG, alt="noise")
    document = InterleavedDocument.from_parts(["two words", pair], metadata={"url": "https://ex.com/"})
    text = format_stats(document_stats([document, document, Dropped("depth")], identify=lambda text: ("en", 1.0)))
    for line in (
        "documents   2, 1 of them repeats", "texts       2, 4 words, 18 characters", "with alt    2, 100%",
        "dropped     1", "  PNG                        2  ##############################",
        "  ex.com                     2  ##############################",
    ):  # fmt: skip
        assert line in text.splitlines()


def test_stats_of_nothing():
    """Are zeros, without a division."""
    assert format_stats(document_stats([])).startswith("documents   0\n")
    assert document_stats([]).to_json()["words_per_document"] == []


@given(parts, metadata)
def test_any_document_is_counted(segments, about):
    """Whatever stands in it; what is printed controls no terminal."""
    stats = document_stats([InterleavedDocument.from_parts(segments, metadata=about), Dropped("\x1b[31mred")])
    assert all(letter.isprintable() for letter in format_stats(stats).replace("\n", ""))


def test_names_that_look_alike_are_added_up():
    """Hosts that differ behind what is shown of them stand in one line, with all that they have."""
    hosts = [f"https://{'a' * 61}{end}.example/" for end in "bc"]
    stats = document_stats(InterleavedDocument((), {"url": url}) for url in hosts)
    (line,) = [line for line in format_stats(stats).splitlines() if "aaaa" in line]
    assert line.split()[1] == "2"
