"""CIDEr-D: its laws, the worked cases, and pycocoevalcap on drawn captions."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.metrics import Cider, DocumentFrequencies, cider_d
from tests.evaluation.metrics.answered import pairs

WAVE = (
    [
        ["a man riding a wave on a surfboard", "a surfer rides a large wave in the ocean"],
        ["a cat sitting on a couch", "a black cat sleeping on a sofa"],
        ["two dogs playing with a frisbee in a park", "dogs chase a frisbee on the grass"],
    ],
    ["a man riding a wave on a surfboard", "a cat sleeping on a couch", "two dogs play in the grass"],
)
BUS = (
    [
        ["a red bus"],
        ["a red bus parked on the street", "the bus is red", "a bus near a building"],
        ["the sky is blue", "blue sky over the sea", "clouds in a blue sky"],
        ["people walking on the street", "a busy street"],
    ],
    ["a red bus", "a red bus a red bus a red bus a red bus", "blue", "people people people street"],
)
BIRD = ([["a dog runs"], ["a dog runs"], ["the bird sings loudly", "a bird"]], ["a dog runs", "", "zebra quux"])
TRAIN = (
    [
        ["the train leaves the old station at night"] * 3,
        ["a bowl of fruit on a wooden table", "fruit in a bowl", "apples and oranges in a bowl on the table"],
        ["a person skiing down a snowy hill", "skier going down hill"],
        ["a kitchen with a stove and a sink", "a small kitchen", "white kitchen with a sink", "kitchen", "a stove"],
    ],
    [
        "the train leaves the station", "a bowl of fruit on a table", "a person on skis on a hill",
        "a kitchen with a stove and a sink and a stove and a sink",
    ],
)  # fmt: skip
CASES = [
    (*WAVE, 3.578759, [5.268437, 3.981669, 1.486171]),
    (WAVE[0][:2], WAVE[1][:2], 4.587008, [5.232970, 3.941047]),
    (WAVE[0][:1], WAVE[1][:1], 0.0, [0.0]),
    (*BUS, 2.320801, [7.5, 0.223706, 1.151150, 0.408350]),
    (*BIRD, 2.5, [7.5, 0, 0]),
    (*TRAIN, 2.506071, [4.656292, 3.616075, 0.860098, 0.891817]),
    ([["cat"], ["dog"]], ["cat", "cat"], 1.25, [2.5, 0]),
    ([["black cat"], ["white dog"]], ["black cat", "white cat"], 3.125, [5, 1.25]),
    ([["a b c d"], ["e f g h"], ["i j k l m"]], ["a b c d", "e f g h", "i j k l m"], 10, [10, 10, 10]),
]
WORDS = st.sampled_from("a the dog cat runs red on sofa".split())
CAPTIONS = st.lists(WORDS, max_size=9).map(" ".join)
CORPORA = st.lists(st.tuples(CAPTIONS, st.lists(CAPTIONS, min_size=1, max_size=4)), min_size=1, max_size=8)


def score(corpus, **options):
    return cider_d([caption for caption, _ in corpus], [list(r) for _, r in corpus], tokenize=str.split, **options)


@pytest.mark.parametrize(("references", "captions", "corpus", "per_image"), CASES)
def test_worked_cases_score_what_pycocoevalcap_gave(references, captions, corpus, per_image):
    """Small corpora score to six digits what pycocoevalcap gave for them."""
    found = cider_d(captions, references, tokenize=str.split)
    assert found.corpus == pytest.approx(corpus, abs=1e-6)
    assert found.per_image == pytest.approx(per_image, abs=1e-6)


def test_a_narrower_penalty_lowers_captions_of_another_length():
    """With a width of one word the first worked case falls from 3.58 to 2.95."""
    assert cider_d(WAVE[1], WAVE[0], tokenize=str.split, sigma=1.0).corpus == pytest.approx(2.945076, abs=1e-6)


@pytest.mark.peers
@given(CORPORA)
def test_pycocoevalcap_gives_the_same_scores_on_any_captions(corpus):
    """Empty captions, single words and repeats score what pycocoevalcap gives, for each image."""
    cider = pytest.importorskip("pycocoevalcap.cider.cider", reason="peers are installed by `nox -s tests`")
    assume(any(reference for _, references in corpus for reference in references))  # it stops where there is no word
    references = {place: list(captions) for place, (_, captions) in enumerate(corpus)}
    captions = {place: [caption] for place, (caption, _) in enumerate(corpus)}
    mean, per_image = cider.Cider().compute_score(references, captions)
    found = score(corpus)
    assert found.corpus == pytest.approx(float(mean), abs=1e-9)
    assert found.per_image == pytest.approx([float(value) for value in per_image], abs=1e-9)


@given(CORPORA, st.randoms(use_true_random=False))
def test_scores_keep_to_their_range_and_to_their_images(corpus, random):
    """Scores are from 0 to 10, follow their images in any order, and one image alone scores 0."""
    found = score(corpus)
    assert all(-1e-9 <= value <= 10 + 1e-9 for value in found.per_image)
    order = random.sample(range(len(corpus)), len(corpus))
    shuffled = score([corpus[place] for place in order])
    assert shuffled.corpus == pytest.approx(found.corpus, abs=1e-12)
    assert shuffled.per_image == pytest.approx([found.per_image[place] for place in order], abs=1e-12)
    assert score(corpus[:1]).corpus == 0


@given(CORPORA)
def test_renaming_words_changes_nothing(corpus):
    """Only which words are equal counts, not what they are."""

    def renamed(caption):
        return " ".join(f"x{word[::-1]}" for word in caption.split())

    other = [(renamed(caption), [renamed(reference) for reference in references]) for caption, references in corpus]
    assert score(other).per_image == pytest.approx(score(corpus).per_image, abs=1e-12)


@given(CORPORA)
def test_document_frequencies_of_the_evaluated_images_change_nothing(corpus):
    """Given the frequencies that it would count itself, the score is the same; a part keeps its scores of the whole."""
    frequencies = DocumentFrequencies.learn([r for _, r in corpus], tokenize=str.split, tokenizer="split")
    whole = score(corpus)
    assert score(corpus, document_frequencies=frequencies) == whole
    assert score(corpus[:2], document_frequencies=frequencies).per_image == whole.per_image[:2]


def test_document_frequencies_are_read_as_they_were_saved(tmp_path):
    """Counts, number of images and tokenizer come back; the file's name becomes theirs, and the variant says it."""
    frequencies = DocumentFrequencies.learn([["A dog's caf\u00e9", "a dog"], ["a cat"]])
    frequencies.save(tmp_path / "coco-val.json")
    loaded = DocumentFrequencies.load(tmp_path / "coco-val.json")
    assert loaded.counts == frequencies.counts and loaded.num_images == 2
    items, predictions = pairs([(["a dog"], "A dog.")])
    metric = Cider(document_frequencies=loaded)
    assert metric.variant == "CIDEr-D(ptb-regex, idf=coco-val)"
    found = metric.score(items, predictions)
    assert found.variant == "CIDEr-D(ptb-regex, idf=coco-val, N=2)" and found.value == pytest.approx(500)


@pytest.mark.parametrize(
    "content", ["[]", "{}", "no json", '{"num_images": 0, "tokenizer": "x", "counts": {}}', '{"num_images": 2}']
)
def test_a_file_of_something_else_is_refused(tmp_path, content):
    """The error names the file and how to write it; so does the one about a missing file."""
    file = tmp_path / "frequencies.json"
    with pytest.raises(EvaluationError, match=r"frequencies.json cannot be read.*DocumentFrequencies.save"):
        DocumentFrequencies.load(file)
    file.write_text(content)
    with pytest.raises(EvaluationError, match=r"frequencies.json holds no document frequencies"):
        DocumentFrequencies.load(file)


def test_the_metric_scores_in_the_unit_of_papers():
    """Words are split as the Penn Treebank has them, the value is a hundred times the mean, lines are folded."""
    references = [*WAVE[0], ()]
    captions = [*(f"{caption[:9]}\u2028{caption[10:]}." for caption in WAVE[1]), "anything"]
    captions[1] = WAVE[1][1].upper()
    captions[2] = WAVE[1][2].replace(" ", "\x0b")
    captions[0] = WAVE[1][0].replace(" ", "\n")
    items, predictions = pairs(list(zip(references, captions, strict=True)))
    found = Cider().score(items, predictions)
    assert found.variant == "CIDEr-D(ptb-regex, idf=evaluated, N=3)"
    assert found.value == pytest.approx(357.8759, abs=1e-4)
    assert found.per_item[:3] == pytest.approx([526.8437, 398.1669, 148.6171], abs=1e-4) and found.per_item[3] is None
    assert found.counts == {"asked": 4, "empty": 0, "non_ascii": 0, "scored": 3, "without_answers": 1}
    assert Cider().score(items[3:], predictions[3:]).value is None


def test_wrong_arguments_are_told():
    """Missing captions, images without references and frequencies of another tokenizer are refused."""
    with pytest.raises(ValueError, match="hypotheses has 1 captions, references 2 images"):
        cider_d(["a"], [["a"], ["b"]])
    with pytest.raises(ValueError, match="hypotheses has 0 captions"):
        cider_d([], [])
    with pytest.raises(ValueError, match=r"references\[1\] is empty"):
        cider_d(["a", "b"], [["a"], []])
    items, predictions = pairs([(["a"], "a")])
    metric = Cider(tokenize=str.split, tokenizer_name="split", document_frequencies=DocumentFrequencies(1, {}))
    with pytest.raises(ValueError, match="counted in words of 'ptb-regex', captions are split by 'split'"):
        metric.score(items, predictions)


def test_words_are_those_of_the_treebank_by_default():
    """Case and the final period do not count."""
    assert cider_d(["A Dog.", "a cat"], [["a dog"], ["cat"]]) == cider_d(["a dog", "a cat"], [["a dog"], ["cat"]])
