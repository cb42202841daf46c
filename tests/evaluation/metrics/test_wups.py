"""WUPS and the reader of WordNet: the worked cases, nltk on the same files, and the laws."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.metrics import STOP_WORDS, NextQa, WordNet, wups
from tests.evaluation.metrics.answered import item, said
from tests.evaluation.metrics.small_wordnet import NOUNS, VERBS, write_small_wordnet

WORDS = [
    ("dog", "cat", 0.8, 0.08),
    ("dog", "car", 0.4, 0.04),
    ("dog", "animal", 0.888889, 0.088889),
    ("run", "walk", 0.333333, 0.033333),
    ("run", "eat", 0.4, 0.04),
    ("dog", "run", 0.222222, 0.022222),
    ("car", "auto", 1.0, 1.0),
    ("dog", "zzz", 0.0, 0.0),
]
ANSWERS = [
    ("dog run", "dog", 0.222222, 0.022222),
    ("man run", "woman walk", 0.266667, 0.002667),
    ("dog zzz", "dog", 1.0, 1.0),
    ("", "", 0.0, 0.0),
    ("man dog car", "woman cat truck", 0.512, 0.000512),
    ("dog dog", "dog cat", 0.8, 0.08),
]
VOCABULARY = [*NOUNS, *VERBS, "auto", "dogs", "men", "walking", "ran", "eats", "cars", "zzz", "Dog"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_small_wordnet(tmp_path_factory.mktemp("nltk_data") / "corpora" / "wordnet")


@pytest.fixture(scope="module")
def small(folder):
    return WordNet(folder)


@pytest.mark.parametrize(("one", "other", "at_0", "at_09"), WORDS)
def test_words_are_as_near_as_their_first_senses(small, one, other, at_0, at_09):
    """Pairs of words have the known similarity, in both orders, and a tenth of it below the threshold."""
    assert small.similarity(one, other) == pytest.approx(at_0, abs=1e-6)
    assert small.similarity(other, one) == pytest.approx(at_0, abs=1e-6)
    for threshold, expected in ((0.0, at_0), (0.9, at_09)):
        found = wups(one, [other], similarity=small.similarity, lemmatise=str.split, threshold=threshold)
        assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("one", "other", "at_0", "at_09"), ANSWERS)
def test_answers_are_as_near_as_the_worse_direction(small, one, other, at_0, at_09):
    """Answers of several words, unknown words and none have the known score, in both orders."""
    for threshold, expected in ((0.0, at_0), (0.9, at_09)):
        for pair in ((one, other), (other, one)):
            found = wups(pair[0], [pair[1]], similarity=small.similarity, lemmatise=str.split, threshold=threshold)
            assert found == pytest.approx(expected, abs=1e-6)


def test_nltk_gives_the_same_similarities_on_the_same_files(small, folder, monkeypatch):
    """For every pair of words, inflected and unknown ones too, nltk finds the same, and the same lemmas."""
    nltk = pytest.importorskip("nltk")
    monkeypatch.setattr(nltk.data, "path", [str(folder.parent.parent)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of files that it leaves open
        reader = nltk.corpus.reader.WordNetCorpusReader(nltk.data.find("corpora/wordnet"), None)
        for one in VOCABULARY:
            for other in VOCABULARY:
                first, second = reader.synsets(one), reader.synsets(other)
                expected = (first[0].wup_similarity(second[0]) or 0.0) if first and second else 0.0
                assert small.similarity(one, other) == pytest.approx(expected, abs=1e-12), (one, other)
        lemmas = [min(reader._morphy(word, "n"), key=len, default=word) for word in ("dogs", "men", "cars", "zzz")]
    assert small.lemmatise("dogs men cars zzz") == lemmas


def test_lemmas_are_verbs_where_the_ending_says_so(small):
    """Words in -ing are verbs first, others nouns; words that are not known stay."""
    assert small.lemmatise("The Men's dogs ran, walking.") == ["the", "man", "'s", "dog", "run", "walk"]


@given(st.lists(st.sampled_from(VOCABULARY)), st.lists(st.sampled_from(VOCABULARY)))
def test_the_score_is_symmetric_and_1_for_equal_answers(one, other):
    """Order of the two, and of the words in them, changes nothing; an answer scores 1 against itself."""

    def similarity(first, second):
        return {1: 0.5, 2: 0.25}.get(abs(len(first) - len(second)), 0.0)

    def score(first, second):
        return wups(" ".join(first), [" ".join(second)], similarity=similarity, lemmatise=str.split)

    found = score(one, other)
    assert 0 <= found <= 1
    assert found == pytest.approx(score(other, one)) == pytest.approx(score(one[::-1], other))
    if set(one) - STOP_WORDS:
        assert score(one, one) == 1


def test_stop_words_leave_what_turns_an_answer():
    """`no`, `nor` and `not` are kept, and so is the difference that they make."""
    assert not STOP_WORDS & {"no", "nor", "not", "on", "under", "dog"}
    assert {"the", "is", "to", "he", "n't"} <= STOP_WORDS


def asked(*rows):
    items = [item(answers, name=str(k), question_type=kind) for k, (kind, answers, _) in enumerate(rows)]
    return items, [said(answer, name=str(k)) for k, (*_, answer) in enumerate(rows)]


def test_the_metric_takes_the_nearer_of_two_answers_and_equality_for_yes_no_and_counts(folder):
    """TP counts as TN, DB and DC want equal lemmas, each type is a part, and @0.9 stands beside the headline."""
    rows = asked(
        ("CW", ["car", "cat"], "the dog"),
        ("TP", ["dogs"], "a dog"),
        ("DB", ["no"], "No."),
        ("DC", ["two"], "three"),
        ("DO", [], "dog"),
    )
    score = NextQa(wordnet=folder).score(*rows)
    assert score.variant == "WUPS@0.0(wordnet)"
    assert score.per_item == (pytest.approx(80), 100, 100, 0, None)
    assert score.value == pytest.approx(70)
    assert score.parts == {
        "WUPS@0.9(wordnet)": pytest.approx(52), "CW": pytest.approx(80), "TN": 100, "DB": 100, "DC": 0,
    }  # fmt: skip
    assert score.counts["scored"] == 4 and score.counts["without_answers"] == 1
    assert NextQa(wordnet=folder, threshold=0.9).score(*rows).value == pytest.approx(52)


def test_missing_data_is_named_with_the_folder(folder, tmp_path, monkeypatch):
    """The error names the file and the folder, or the folders that were looked in; nothing is downloaded."""
    items, predictions = asked(("CW", ["car"], "dog"))
    with pytest.raises(EvaluationError, match=r"WordNet is missing index.noun in .*; give the folder"):
        NextQa(wordnet=tmp_path).score(items, predictions)
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path / "wn"))
    monkeypatch.setenv("NLTK_DATA", str(folder.parent.parent))
    assert WordNet().folder == folder
    monkeypatch.setenv("NLTK_DATA", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("flamingo_blocks.evaluation.metrics.wordnet.LAST_PLACE", str(tmp_path / "share"))
    with pytest.raises(EvaluationError, match=r"WordNet is in none of .*/wn, .*corpora/wordnet, .*/share"):
        WordNet()


def test_files_that_do_not_belong_together_are_refused(folder, tmp_path):
    """A data file with other line ends than the index counts is told, not misread."""
    other = write_small_wordnet(tmp_path / "wordnet")
    data = (other / "data.noun").read_bytes()
    (other / "data.noun").write_bytes(data[:40] + b"\r" + data[40:])
    with pytest.raises(EvaluationError, match=r"data.noun has no entry at byte \d+"):
        WordNet(other).similarity("dog", "cat")


def test_wrong_arguments_are_told(folder):
    """Answers that are missing, types that are unknown and half of two functions are refused."""
    with pytest.raises(ValueError, match="answers is empty"):
        wups("dog", [], similarity=lambda one, other: 0.0, lemmatise=str.split)
    with pytest.raises(ValueError, match="of similarity and lemmatise one is None"):
        NextQa(lemmatise=str.split)
    items, predictions = asked(("XX", ["car"], "dog"))
    with pytest.raises(EvaluationError, match="query '0' has the question_type 'XX', wanted one of CH CW"):
        NextQa(wordnet=folder).score(items, predictions)
