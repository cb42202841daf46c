"""The demo's questions as tasks: the same prompts, token by token, and the same answers."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_blocks.data import InterleavedDocument, TextSegment, tokenize_document
from flamingo_blocks.demo.demo_processor import BankFeatures, demo_processor
from flamingo_blocks.demo.episodes import EpisodeSource, caption_ids, text_of_image
from flamingo_blocks.demo.image_bank import ImageBank
from flamingo_blocks.demo.images import NUM_PAIRS, SEEN_PAIRS, UNSEEN_PAIRS
from flamingo_blocks.demo.language_model import TinyDecoder
from flamingo_blocks.demo.measure import caption_accuracy
from flamingo_blocks.demo.model import build_flamingo, to_batch
from flamingo_blocks.demo.naming_task import captions_task, image_name, naming_task
from flamingo_blocks.demo.rows import ROWS
from flamingo_blocks.demo.tower import DigitTower
from flamingo_blocks.demo.words import NEW_NAMES, demo_vocabulary
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.synthetic import chance

VOCABULARY = demo_vocabulary()
PAIRS = torch.arange(20 * NUM_PAIRS) % NUM_PAIRS


@pytest.fixture(scope="module")
def flamingo():
    """A model of the demo that has learnt nothing, with open gates, so that images count."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = build_flamingo(DigitTower(), TinyDecoder(vocab_size=len(VOCABULARY.words)), VOCABULARY).eval()
        for name, parameter in made.named_parameters():
            if "gate" in name:
                parameter.data.fill_(1.0)
    return made


@pytest.fixture(scope="module")
def bank(flamingo):
    """Images that differ, by their features."""
    features = torch.randn(len(PAIRS), 16, flamingo.vision.dim, generator=torch.Generator().manual_seed(1))
    return ImageBank(features=features, pairs=PAIRS)


def prompt_of(query, shots):
    """The prompt of a query behind its first shots, as the evaluation writes tasks that are continued."""
    parts = []
    for shot in query.support[:shots]:
        parts += [*shot.media, TextSegment(f"{shot.texts['question']} {shot.answers[0]}<EOC>")]
    return InterleavedDocument((*parts, *query.media, TextSegment(query.texts["question"]))).merged()


@pytest.mark.parametrize("row", ROWS[:5], ids=lambda row: row.key)
@pytest.mark.parametrize("answering", ["open", "closed"])
def test_an_episode_has_its_shots_in_order(row, answering, bank):
    """A name is one pair throughout, shots show each once before any twice, and the question has any of them."""
    task = naming_task(row, bank, VOCABULARY, episodes=101, answering=answering)
    assert task.name == f"{row.key}.{answering}"
    assert len({query.id for query in task.queries}) == len(task.queries) == 101
    for query in task.queries:
        names = query.facts["names"]
        assert len(set(names)) == row.num_names and set(names) <= set(NEW_NAMES)
        assert query.candidates == (names if answering == "closed" else ())
        assert query.answers[0] in names
        assert len(query.support) == max(row.shots)
        called = {}
        for item in (*query.support, query):
            (pair,) = {int(bank.pairs[int(segment.url.removeprefix("bank/"))]) for segment in item.media}
            assert pair in row.pairs
            assert called.setdefault(item.answers[0], pair) == pair
        assert len(set(called.values())) == len(called)
        for shots in range(len(query.support) + 1):
            counts = Counter(shot.answers[0] for shot in query.support[:shots])
            assert max(counts.values(), default=0) - min(counts[name] for name in names) <= 1
        urls = [segment.url for item in (*query.support, query) for segment in item.media]
        assert len(set(urls)) == len(urls)
    assert chance(task) == 100 / row.num_names


def test_a_prompt_has_the_ids_that_the_demo_trains_on(flamingo, bank):
    """Prompt and answer of a task, tokenised, are what an episode holds; no `<EOC>` is put in besides."""
    row = ROWS[1]
    task = naming_task(row, bank, VOCABULARY, episodes=5)
    processor = demo_processor(VOCABULARY, flamingo, bank=bank)
    for query in task.queries:
        for shots in row.shots:
            document = prompt_of(query, shots)
            expected = [VOCABULARY.special.bos]
            for item in query.support[:shots]:
                expected += text_of_image(VOCABULARY, f"this is a {item.answers[0]}").tolist()[1:]
            expected += text_of_image(VOCABULARY, f"this is a {query.answers[0]}").tolist()[1:-2]
            for end_before_media in (False, True):
                ids = tokenize_document(
                    document, tokenizer=VOCABULARY, special=processor.special, end_before_media=end_before_media,
                    end_of_document=False,
                ).ids  # fmt: skip
                assert list(ids) == expected
            batch = processor([document])
            assert batch.input_ids[0].tolist() == expected
            assert batch.features.shape == (shots + 1, 1, 16, flamingo.vision.dim)


def questions(task, shots, flamingo, bank):
    """Batch, candidates and right ones of a task."""
    processor = demo_processor(VOCABULARY, flamingo, bank=bank)
    batch = processor([prompt_of(query, shots) for query in task.queries])
    candidates = torch.tensor([VOCABULARY.encode(query.facts["names"]) for query in task.queries])
    answer = torch.tensor([query.facts["names"].index(query.answers[0]) for query in task.queries])
    return batch, candidates, answer


@pytest.mark.parametrize("row", [ROWS[1], ROWS[4]], ids=lambda row: row.key)
def test_episodes_are_those_that_are_drawn(row, flamingo, bank):
    """With the most shots a task has the very episodes of the source, token by token."""
    shots = max(row.shots)
    source = EpisodeSource(
        bank=bank, vocabulary=VOCABULARY, pairs=row.pairs, names=NEW_NAMES, hard_share=float(row.hard)
    )
    generator = torch.Generator().manual_seed(1000 * row.num_names + shots)
    drawn = source.test(batch=100, shots=shots, num_names=row.num_names, generator=generator)
    expected = to_batch(drawn.prompts(), bank, flamingo)
    task = naming_task(row, bank, VOCABULARY, episodes=100, answering="closed")
    batch, candidates, answer = questions(task, shots, flamingo, bank)
    assert torch.equal(batch.input_ids, expected.input_ids)
    assert torch.equal(batch.features, expected.features)
    assert torch.equal(candidates, drawn.names)
    assert torch.equal(answer, drawn.answer)


def test_fewer_episodes_are_the_first_of_more(bank):
    """An episode does not depend on how many are asked."""
    few, many = (naming_task(ROWS[2], bank, VOCABULARY, episodes=count) for count in (3, 150))
    for one, other in zip(few.queries, many.queries[:3], strict=True):
        assert [shot.media[0].url for shot in one.support] == [shot.media[0].url for shot in other.support]
        assert (one.id, one.answers, one.facts) == (other.id, other.answers, other.facts)


@pytest.mark.parametrize("pairs", [SEEN_PAIRS, UNSEEN_PAIRS], ids=["seen", "unseen"])
def test_captions_are_those_of_the_pairs(pairs, flamingo, bank):
    """Prompt and caption, tokenised, are what the demo trains on; the images are those that it asked about before."""
    task = captions_task(bank, pairs=pairs, name="captions.seen", count=30)
    processor = demo_processor(VOCABULARY, flamingo, bank=bank)
    assert len(task.queries) == 30
    for query in task.queries:
        image = int(query.media[0].url.removeprefix("bank/"))
        whole = InterleavedDocument((*query.media, TextSegment(f"{query.texts['question']} {query.answers[0]}<EOC>")))
        ids = tokenize_document(whole, tokenizer=VOCABULARY, special=processor.special).ids
        assert int(bank.pairs[image]) in pairs
        assert list(ids) == caption_ids(VOCABULARY)[bank.pairs[image]].tolist()


def test_captions_are_counted_as_they_are_written(flamingo, bank):
    """The share of captions that are right is that of what the model writes, one by one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        task = captions_task(bank, pairs=SEEN_PAIRS, name="captions.seen", count=8)
        processor = demo_processor(VOCABULARY, flamingo, bank=bank)
        written = []
        for query in task.queries:
            batch = processor([InterleavedDocument(query.media)])
            ids = flamingo.generate(**batch.model_inputs(), max_new_tokens=8, eos_token_id=flamingo.end_token_id)
            text = VOCABULARY.decode(ids[0, batch.input_ids.shape[1] :].tolist()).partition("<EOC>")[0]
            written.append(Prediction(task=task.name, id=query.id, shots=0, seed=0, answer=text.strip()))
    value = task.metrics[0].score(task.queries, written).value
    assert value == 100 * caption_accuracy(flamingo, bank, VOCABULARY, pairs=SEEN_PAIRS, count=8)


def test_without_a_bank_the_tower_reads_the_images(flamingo):
    """A processor without features turns pictures into the pixels of the tower."""
    batch = demo_processor(VOCABULARY, flamingo)([[torch.zeros(3, 20, 10), "this is a kulm"]])
    assert batch.pixels.shape == (1, 1, 3, 8, 8)
    assert batch.features is None


@settings(max_examples=10)
@given(image=st.integers(0, len(PAIRS) - 1))
def test_features_are_found_by_name(image):
    """Every image of a bank has one name, and its features are those of its row."""
    small = ImageBank(features=torch.arange(len(PAIRS), dtype=torch.float32)[:, None, None], pairs=PAIRS)
    found = BankFeatures(small)
    assert torch.equal(found[image_name(image)], small.features[image][None])
    assert len(found) == len(list(found)) == len(PAIRS)
    assert "bank/-1" not in found
