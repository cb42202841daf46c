"""Batches are a function of their number: nothing twice, nothing lost, whatever the ranks, wherever a run stopped."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data.loading import DataStream, InterleavedSource, Mixture, SampleOrder, data_parallel_rank
from flamingo_blocks.training import Objective, TrainConfig, train
from tests.data.loading.toy_sources import digest, mixture, rows, samples, source, three_sources
from tests.strategies import seeds

splits, world_sizes = st.integers(0, 12), st.sampled_from([1, 2, 4])


def whole_steps(streams):
    """One step of all ranks: the rows of each source, ranks in order."""
    steps = [next(stream) for stream in streams]
    return {name: [row for step in steps for row in rows(step[name])] for name in steps[0]}


def ranks_of(world_size):
    return [mixture(rank=rank, world_size=world_size) for rank in range(world_size)]


@given(st.integers(1, 40), st.integers(1, 7), seeds)
def test_each_sample_is_seen_once_an_epoch(size, batch_size, seed):
    """Over any number of whole epochs each sample is seen as often as there are epochs."""
    stream = DataStream(source(size=size, batch_size=batch_size), seed=seed)
    seen = Counter(sample for _ in range(size) for sample in samples(next(stream)))
    assert seen == dict.fromkeys(range(size), batch_size)


@given(st.integers(2, 40), seeds, st.data())
def test_what_can_be_used_is_seen_in_its_own_place(size, seed, data):
    """Broken and dropped samples take no good one with them: each stands where it would stand without them, others
    stand in for the bad, and all are counted by reason.
    """
    bad = data.draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=size - 1))
    broken = {sample for sample in bad if sample % 2}
    stream = DataStream(source(size=size, batch_size=1, broken=broken, dropped=bad - broken), seed=seed)
    order = SampleOrder(size, seed, "numbers")
    extra = Counter()
    for position in range(size):
        wanted, (seen,) = order.at(position).sample, samples(next(stream))
        assert seen not in bad
        assert wanted in bad or seen == wanted
        walk = [order.at(position, tries=tries).sample for tries in range(size)]
        extra.update("json" if sample in broken else "too_small" for sample in walk[: walk.index(seen)])
    assert stream.dropped == extra


def test_a_stand_in_is_not_the_same_row_twice():
    """A sample that stands in for another draws anew, so an epoch does not hold the same row twice."""
    stream = DataStream(source(size=40, batch_size=40, broken=range(20)), seed=0)
    seen = rows(next(stream))
    assert len({number for number, _ in seen}) == 20
    assert len(set(seen)) > 35  # a draw is a number below 1000


@given(splits, world_sizes, world_sizes)
def test_ranks_together_see_the_same_before_and_after_a_stop(split, before, after):
    """What all ranks see in a step does not depend on their number, also when it changes where a run stopped."""
    alone = mixture()
    steps = [{name: rows(batch) for name, batch in next(alone).items()} for _ in range(split + 4)]
    streams = ranks_of(before)
    assert [whole_steps(streams) for _ in range(split)] == steps[:split]
    states = [json.dumps(stream.state_dict()) for stream in streams]
    assert len(set(states)) == 1
    streams = ranks_of(after)
    for stream in streams:
        stream.load_state_dict(json.loads(states[0]))
    assert [whole_steps(streams) for _ in range(4)] == steps[split:]


@given(splits, st.integers(0, 3))
def test_a_prefix_and_what_follows_its_state_are_the_uninterrupted_run(split, drawn):
    """Byte for byte, also where the state is taken between two draws of a step, and on a mixture that went on."""
    names = ["pages", "pairs", "mixed"]
    run = mixture()
    views = {name: run.batches(name) for name in names}
    draws = [(name, digest({name: next(views[name])})) for _ in range(split + 2) for name in names]
    again = mixture()
    for name, expected in draws[: 3 * split + drawn]:
        assert digest({name: next(again.batches(name))}) == expected
    state = again.state_dict()
    next(again)
    for fresh in (mixture(), again):
        fresh.load_state_dict(state)
        for name, expected in draws[3 * split + drawn :]:
            assert digest({name: next(fresh.batches(name))}) == expected


@given(st.integers(0, 10**12))
def test_any_position_is_reached_at_once(batches):
    """A state of any number of batches gives the next one without those before it."""
    stream = DataStream(source(size=97), seed=1)
    state = stream.state_dict()
    state["sources"]["numbers"]["batches"] = batches
    stream.load_state_dict(state)
    order = SampleOrder(97, 1, "numbers")
    assert samples(next(stream)) == [order.at(position).sample for position in range(4 * batches, 4 * batches + 4)]


def test_rows_of_an_interleaved_source_have_exact_shares():
    """Two of seven rows are clips, each part in its own order and without end."""
    mixed = three_sources()[2]
    assert isinstance(mixed, InterleavedSource)
    stream = DataStream(mixed, seed=0)
    seen = [sample for _ in range(14) for sample in samples(next(stream))]
    schedule = mixed.schedule
    clips = [sample for slot, sample in enumerate(seen) if schedule.at(slot)[0] == 0]
    texts = [sample for slot, sample in enumerate(seen) if schedule.at(slot)[0] == 1]
    assert (len(clips), len(texts)) == (16, 40)
    order = SampleOrder(11, 0, "texts")
    assert texts == [order.at(position).sample for position in range(40)]
    assert 0 not in clips


def test_a_source_of_weight_zero_is_not_read():
    """It is in no step, and its documents are not touched."""
    silent = source("silent", size=3, broken=[0, 1, 2], weight=0)
    both = Mixture([source("numbers"), silent], seed=0)
    assert set(next(both)) == {"numbers"}
    assert both.dropped == {"numbers": {}, "silent": {}}
    assert both.weights == {"numbers": 1.0, "silent": 0}


def test_samples_in_order_without_shuffle():
    """Without shuffling each epoch is the documents as they stand."""
    stream = DataStream(source(size=6, shuffle=False), seed=0)
    assert [samples(next(stream)) for _ in range(3)] == [[0, 1, 2, 3], [4, 5, 0, 1], [2, 3, 4, 5]]


def test_a_source_without_one_good_sample_says_so():
    """Every sample is tried once, and the error counts why none could be used."""
    stream = DataStream(source(size=5, broken=[0, 1, 2], dropped=[3, 4]), seed=0)
    with pytest.raises(ValueError, match="'numbers' has nothing for position 0: 5 of its 5 samples were tried") as info:
        next(stream)
    assert "'json': 3" in str(info.value)
    assert "'too_small': 2" in str(info.value)
    assert stream.state_dict()["sources"]["numbers"]["batches"] == 0


def test_other_errors_than_of_a_record_are_raised_with_their_place():
    """A slip in `make` is no broken record: it ends the run, and says at which sample."""
    stream = DataStream(source(make=lambda _: lambda document, key: {}["width"]), seed=0)
    with pytest.raises(KeyError, match="width") as info:
        next(stream)
    first = SampleOrder(23, 0, "numbers").at(0).sample
    assert info.value.__notes__ == [f"this was sample {first} of source 'numbers', in epoch 0"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda: source(size=0), "documents of source 'numbers' are none"),
        (lambda: source(batch_size=0), "batch_size of source 'numbers' is 0"),
        (lambda: source(weight=-1.0), "weight of source 'numbers' is -1.0"),
        (lambda: source(weight=float("nan")), "weight of source 'numbers' is nan"),
        (lambda: DataStream(source(), seed=0, rank=2, world_size=2), "rank is 2, wanted one of the 2"),
        (lambda: DataStream(source(), seed=0, world_size=3), "is 4, wanted a multiple of world_size, 3"),
        (lambda: DataStream(source(), seed=0, num_workers=-1), "num_workers is -1"),
        (lambda: DataStream(source(), seed=0, prefetch=0), "prefetch is 0"),
        (lambda: Mixture([source(), source()], seed=0), "each needs a name of its own"),
        (lambda: Mixture([source(weight=0)], seed=0), "wanted one above 0"),
        (lambda: mixture().batches("books"), "name is 'books', wanted one of .'mixed', 'pages', 'pairs'."),
        (lambda: replace(three_sources()[2], shares={"clips": 1}), "and a share"),
    ],
)
def test_slips_are_named(change, says):
    """What is out of its range is refused where it is given, with the value that came."""
    with pytest.raises(ValueError, match=says):
        change()


def test_a_mixture_trains_as_objectives():
    """The views of a mixture are what the training loop draws from, in step with each other."""
    data = mixture()
    model = torch.nn.Linear(1, 1)

    def loss(module, batch):
        return module(batch.input_ids[:, :1].float() / 50).square().mean()

    objectives = [Objective(name=name, batches=data.batches(name), loss=loss) for name in data.weights]
    result = train(TrainConfig(model=model, objectives=objectives, steps=3, lr=0.01))
    assert len(result.reports) == 3
    assert {kept["batches"] for kept in data.state_dict()["sources"].values()} == {3}


def test_ranks_come_from_torch(tmp_path):
    """Without a process group there is one rank; with one it is asked."""
    assert data_parallel_rank() == (0, 1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        assert data_parallel_rank() == (0, 1)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("num_workers", (0, 1))
def test_an_interrupt_between_two_sources_shifts_none(num_workers):
    """What one source gave before it is given again: a step is handed out whole, or not at all."""
    with Mixture(three_sources(), seed=3) as whole:
        steps = [digest(next(whole)) for _ in range(3)]
    with Mixture(three_sources(), seed=3, num_workers=num_workers) as stopped:
        assert digest(next(stopped)) == steps[0]

        def names():
            yield next(iter(stopped.weights))
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            stopped._feeds.next(names())
        assert [digest(next(stopped)) for _ in range(2)] == steps[1:]
