"""Tasks out of drawn pictures: the same for a seed, true to what was drawn, and not to be solved without looking."""

import hashlib
import sys
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flamingo_blocks.errors import MissingDependencyError
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.synthetic import SYNTHETIC, chance, synthetic_task
from flamingo_blocks.evaluation.synthetic.digit_pictures import _handwritten, _rows_of
from flamingo_blocks.evaluation.synthetic.operator_induction import OPERATORS, PAIRS
from flamingo_blocks.evaluation.synthetic.shapes import COLOURS

SMALL = {"queries": 2, "support": 2, "size": 12}
NAMES = st.sampled_from(SYNTHETIC)
SEEDS = st.integers(0, 10**6)
OPTIONS = st.sampled_from(
    [
        ("binding", {}),
        ("binding", {"names": 5, "answering": "closed"}),
        ("matching", {}),
        ("matching", {"answering": "closed"}),
        ("operator_induction", {"digits": "bars"}),
        ("operator_induction", {"interleaved": True}),
        ("counting", {}),
    ]
)


def shots_of(task):
    return [*task.support, *(shot for query in task.queries for shot in query.support or ())]


def plain(item):
    """All of an item, pictures as bytes."""
    media = tuple((segment.url, segment.data.numpy().tobytes()) for segment in item.media)
    support = None if item.support is None else tuple(map(plain, item.support))
    return (item.id, media, dict(item.texts), item.answers, item.candidates, repr(item.facts), support)


def pictures(items):
    return {segment.url: segment.data.numpy().tobytes() for item in items for segment in item.media}


@settings(max_examples=6)
@given(options=OPTIONS, seed=SEEDS)
def test_a_seed_gives_the_same_task_and_another_seed_another(options, seed):
    """Questions, answers, shots and every byte of the pictures follow from the seed alone."""
    name, more = options
    one, same, other = (synthetic_task(name, seed=each, **SMALL, **more) for each in (seed, seed, seed + 1))
    assert list(map(plain, one.queries)) == list(map(plain, same.queries))
    assert list(map(plain, one.support)) == list(map(plain, same.support))
    assert not set(pictures(one.queries).values()) & set(pictures(other.queries).values())


def test_the_bytes_are_those_of_every_machine():
    """The pictures of a task have the digest that they had when this was written."""
    digest = hashlib.sha256()
    for name in ("binding", "matching", "counting"):
        for url, content in sorted(pictures(synthetic_task(name, queries=2, support=2, size=32).queries).items()):
            digest.update(url.encode() + content)
    assert digest.hexdigest()[:16] == "2a68fa3b11e3b8ca"


@settings(max_examples=6)
@given(options=OPTIONS, seed=SEEDS)
def test_fewer_queries_are_the_first_of_more(options, seed):
    """A query does not depend on how many there are."""
    name, more = options
    few, many = (synthetic_task(name, seed=seed, **{**SMALL, "queries": count}, **more) for count in (2, 4))
    assert list(map(plain, few.queries)) == list(map(plain, many.queries[:2]))


@settings(max_examples=6)
@given(options=OPTIONS, seed=SEEDS)
def test_no_shot_shows_the_picture_of_a_query(options, seed):
    """Queries and support have neither an address nor the bytes of a picture in common, and ids come once."""
    name, more = options
    task = synthetic_task(name, seed=seed, **SMALL, **more)
    asked, shown = pictures(task.queries), pictures(shots_of(task))
    assert not asked.keys() & shown.keys()
    assert not set(asked.values()) & set(shown.values())
    assert len({query.id for query in task.queries}) == len(task.queries)
    for query in task.queries:
        ids = [shot.id for shot in query.support or task.support]
        assert len(set(ids)) == len(ids) > 0


@settings(max_examples=6)
@given(
    pair=st.lists(OPTIONS, min_size=2, max_size=2),
    seeds=st.tuples(*[st.integers(0, 1)] * 2),
    sizes=st.tuples(*[st.integers(8, 9)] * 2),
)
@example(pair=[("binding", {}), ("binding", {"names": 5})], seeds=(0, 0), sizes=(8, 8))
@example(pair=[("counting", {}), ("counting", {})], seeds=(0, 1), sizes=(8, 8))
@example(pair=[("counting", {}), ("counting", {})], seeds=(0, 0), sizes=(8, 9))
@example(pair=[("operator_induction", {"digits": way}) for way in ("bars", "handwritten")], seeds=(0, 0), sizes=(8, 8))
def test_an_address_stands_for_one_picture(pair, seeds, sizes):
    """Whatever two tasks are asked together, one address is never two pictures."""
    tasks = [
        synthetic_task(name, **{**SMALL, "size": size}, seed=seed, **more)
        for (name, more), seed, size in zip(pair, seeds, sizes, strict=True)
    ]
    one, other = (pictures([*task.queries, *shots_of(task)]) for task in tasks)
    assert all(one[url] == other[url] for url in one.keys() & other.keys())


def test_an_id_of_a_shot_stands_for_one_answer():
    """Shots of different queries that have one id show the same, so that ids in a file tell what was shown."""
    for name in SYNTHETIC:
        seen = {}
        for shot in shots_of(synthetic_task(name, queries=12, support=4, size=8)):
            told = (shot.answers, tuple(segment.url for segment in shot.media))
            assert seen.setdefault(shot.id, told) == told


@settings(max_examples=6)
@given(seed=SEEDS, names=st.integers(2, 6))
def test_binding_names_things_and_shows_each_name_once_before_any_twice(seed, names):
    """In an episode a name is one thing, names and things are different, and each run of shots has every name."""
    task = synthetic_task("binding", queries=3, seed=seed, size=8, names=names, support=9, answering="closed")
    for query in task.queries:
        things = query.facts["things"]
        assert len(set(things.values())) == len(things) == names
        assert set(query.candidates) == set(things)
        assert query.answers[0] in query.candidates
        answers = [shot.answers[0] for shot in query.support]
        rounds = [answers[start : start + names] for start in range(0, len(answers), names)]
        assert len(rounds) == 8
        assert all(sorted(each) == sorted(things) for each in rounds)
        for shot in query.support:
            assert "-".join(things[shot.answers[0]]) in shot.media[0].url


def commonest_colour(picture):
    """The colour that most pixels off the ground have: grounds are grey, shapes are not."""
    pixels = picture.flatten(1).float()
    spread = pixels.amax(0) - pixels.amin(0)
    names = [*COLOURS]
    known = torch.tensor([COLOURS[name] for name in names]).float()
    nearest = (pixels[:, spread > 70].T[:, None] - known).norm(dim=2).argmin(1)
    return names[int(nearest.bincount().argmax())]


def test_a_picture_shows_the_colour_that_its_facts_tell():
    """What a picture of one thing is said to show is what its pixels have."""
    for query in synthetic_task("binding", queries=30, size=32).queries:
        for item in (query, *query.support[:2]):
            assert commonest_colour(item.media[0].data) == query.facts["things"][item.answers[0]][0]
    for query in synthetic_task("matching", queries=30, support=1, size=32).queries:
        told = [thing[0] for thing in query.facts["things"]]
        assert [commonest_colour(segment.data) for segment in query.media] == told


@settings(max_examples=6)
@given(seed=SEEDS)
def test_pairs_agree_in_one_attribute_and_match_by_the_rule(seed):
    """Each pair agrees in colour or in shape, not both; yes where it is the one of the rule, which shots share."""
    for query in synthetic_task("matching", queries=4, seed=seed, support=3, size=8).queries:
        assert len(query.media) == 2
        for item in (query, *query.support):
            one, other = item.facts["things"]
            agree = [name for name, *values in zip(("colour", "shape"), one, other, strict=True) if len({*values}) == 1]
            assert len(agree) == 1
            assert item.facts["rule"] == query.facts["rule"]
            assert item.answers == ("yes" if agree == [query.facts["rule"]] else "no",)
        assert [shot.answers[0] for shot in query.support] == ["yes", "no"] * 3


@settings(max_examples=6)
@given(seed=SEEDS, interleaved=st.booleans())
def test_results_are_those_of_the_operator(seed, interleaved):
    """The answer of query and shots is the operator of the query worked out on the digits that were drawn."""
    task = synthetic_task("operator_induction", queries=4, seed=seed, support=3, size=8, interleaved=interleaved)
    for query in task.queries:
        assert len(query.media) == (2 if interleaved else 1)
        for item in (query, *query.support):
            assert item.facts["operator"] == query.facts["operator"]
            assert item.answers == (str(OPERATORS[query.facts["operator"]](*item.facts["digits"])),)


def test_no_pair_of_digits_has_one_result_by_two_operators():
    """Every single shot tells the operator, and no result is negative."""
    for pair in PAIRS:
        results = [work_out(*pair) for work_out in OPERATORS.values()]
        assert len(set(results)) == 3
        assert min(results) >= 0


@settings(max_examples=6)
@given(seed=SEEDS)
def test_counts_are_those_of_the_things_drawn(seed):
    """The answer is how many of the things have the value of the question."""
    task = synthetic_task("counting", queries=4, seed=seed, support=4, size=16)
    for item in (*task.queries, *task.support):
        attribute, value = item.texts["question"].split(": ")
        things = item.facts["things"]
        assert int(item.answers[0]) == sum(thing[attribute == "shape"] == value for thing in things)
        assert int(item.answers[0]) < len(things) <= 9


@pytest.mark.parametrize(
    ("name", "more", "most"),
    [("binding", {}, 64), ("binding", {"names": 5}, 65), ("binding", {"support": 80}, 80), ("matching", {}, 128),
     ("operator_induction", {}, 64), ("counting", {}, 64)],
)  # fmt: skip
def test_as_many_shots_can_be_asked_as_the_page_says(name, more, most):
    """The default support is enough for the numbers of shots of a run; of names more can be drawn."""
    task = synthetic_task(name, queries=2, size=8, **more)
    for query in task.queries:
        assert len(query.support or task.support) == most


@given(seed=SEEDS)
@settings(max_examples=4)
def test_more_shots_of_names_begin_with_the_same(seed):
    """What was asked with few shots is what it would be, were more drawn."""
    few, many = (synthetic_task("binding", queries=2, seed=seed, size=8, support=each) for each in (1, 40))
    for one, other in zip(few.queries, many.queries, strict=True):
        assert len(one.support) == 16 < len(other.support)
        assert list(map(plain, one.support)) == list(map(plain, other.support[:16]))


def answered(task, answer):
    return [Prediction(task=task.name, id=query.id, shots=0, seed=0, answer=answer(query)) for query in task.queries]


@pytest.mark.parametrize(
    ("name", "more"),
    [("binding", {}), ("binding", {"names": 5}), ("matching", {}), ("operator_induction", {}), ("counting", {})],
)
def test_who_does_not_look_scores_about_chance(name, more):
    """The most frequent answer, and among names any, is right as often as `chance` says, within three deviations."""
    task = synthetic_task(name, queries=300, support=1, size=8, **more)
    said = chance(task)
    often = Counter(query.answers[0] for query in task.queries).most_common(1)[0][0]
    guesses = answered(task, lambda query: query.facts["names"][0] if name == "binding" else often)
    found = task.metrics[0].score(task.queries, guesses).value
    assert abs(found - said) < 3 * (said * (100 - said) / 300) ** 0.5
    assert task.metrics[0].score(task.queries, answered(task, lambda query: query.answers[0])).value == 100


def test_what_the_last_shot_says_is_no_better_than_chance():
    """Copying the answer of the last of two or four shots is right half of the time, where two answers are in play."""
    for name in ("binding", "matching"):
        task = synthetic_task(name, queries=300, support=2, size=8)
        for shots in (2, 4):
            copied = answered(task, lambda query, shots=shots: query.support[shots - 1].answers[0])
            assert abs(task.metrics[0].score(task.queries, copied).value - 50) < 8.7


@pytest.mark.parametrize(
    ("name", "fewest"), [("binding", 15), ("matching", 2), ("operator_induction", 15), ("counting", 5)]
)
def test_queries_differ(name, fewest):
    """Sixty queries have many answers, drawn anew for each, and every rule, operator and kind of question comes up."""
    queries = synthetic_task(name, queries=60, support=1, size=8).queries
    assert len({query.answers for query in queries}) >= fewest
    assert len({repr(query.facts.get("things", query.facts.get("digits"))) for query in queries}) > 20
    for key, values in (("rule", {"colour", "shape"}), ("operator", set("+-x"))):
        assert {query.facts[key] for query in queries if key in query.facts} in (set(), values)


def test_open_and_closed_ask_the_same():
    """A closed task has the items of the open one, with what may be answered, and a name of its own."""
    for name in ("binding", "matching"):
        opened, closed = (synthetic_task(name, **SMALL, answering=each) for each in ("open", "closed"))
        assert closed.name == f"{opened.name}_closed"
        assert pictures(opened.queries) == pictures(closed.queries)
        assert [query.answers for query in opened.queries] == [query.answers for query in closed.queries]
        assert all(set(query.answers) <= {*query.candidates, *closed.candidates} for query in closed.queries)
        assert not any(query.candidates for query in opened.queries) and not opened.candidates


def test_queries_and_support_are_written_by_different_hands():
    """No handwritten digit is drawn for both, and each side has some of every digit."""
    for digit in range(10):
        query, support = (_rows_of(digit, side) for side in ("query", "support"))
        assert not set(query) & set(support)
        assert min(len(query), len(support)) > 50


def test_without_scikit_learn_digits_have_bars(monkeypatch):
    """Digits are then drawn of seven bars; asked for by hand, the error says what to install."""
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    _handwritten.cache_clear()
    task = synthetic_task("operator_induction", **SMALL)
    assert {query.facts["writing"] for query in task.queries} == {"bars"}
    with pytest.raises(MissingDependencyError, match="synthetic_task needs the package 'sklearn.datasets'"):
        synthetic_task("operator_induction", **SMALL, digits="handwritten")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "bnding"}, "name is 'bnding', wanted one of 'binding', 'matching'"),
        ({"name": "binding", "queries": 0}, "queries is 0, wanted 1 at least"),
        ({"name": "matching", "support": 0}, "support is 0, wanted 1 at least"),
        ({"name": "binding", "size": 4}, "size is 4, wanted 8 at least"),
        ({"name": "binding", "names": 1}, "names is 1, wanted 2 to 24"),
        ({"name": "counting", "answering": "closed"}, "'counting' asks for a number, which is written; leave it open"),
        ({"name": "counting", "interleaved": True}, "interleaved is True, but 'counting' has no digits"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments, message):
    """The error names the argument, what came and what was wanted."""
    with pytest.raises(ValueError, match=message):
        synthetic_task(**arguments)


def test_words_that_cannot_be_meant_are_refused(without_shape_checks):
    """An unknown way to answer or to write is named."""
    with pytest.raises(ValueError, match="answering is 'both', wanted one of 'open', 'closed'"):
        synthetic_task("binding", answering="both")
    with pytest.raises(ValueError, match="digits is 'roman', wanted 'handwritten', 'bars' or None"):
        synthetic_task("operator_induction", digits="roman")


def test_a_task_without_its_chance_is_refused():
    """Chance is told by the queries of a drawn task or of VL-ICL."""
    task = synthetic_task("counting", **SMALL)
    bare = replace(task, queries=tuple(replace(query, facts={}) for query in task.queries))
    with pytest.raises(ValueError, match="task 'counting' does not tell its chance"):
        chance(bare)
