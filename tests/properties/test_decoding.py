"""Laws 7, 8 and 16: a cache, chunks, turns, beams and shared prompts change the cost of an answer, never the answer."""

import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from flamingo_blocks import Flamingo, MediaLayout
from flamingo_blocks.models import generation
from tests.flamingos import END_OF_CHUNK, Batch, close, make_batch, make_flamingo, prompt_rows, text_rows
from tests.language_models import END, NAMES, OF_TRANSFORMERS
from tests.strategies import heavy, seeds

language_models = pytest.mark.parametrize("name", (*NAMES, "paper"))
of_transformers = pytest.mark.parametrize("name", OF_TRANSFORMERS)
scopes = st.sampled_from(["last", "all"])


def batch_for(name: str, rows, seed: int) -> Batch:
    """A plain decoder knows no pads: they are text like any other."""
    batch = make_batch(rows, seed)
    return replace(batch, real=torch.ones_like(batch.real)) if name == "plain" else batch


def cuts_of(data: st.DataObject, width: int) -> list[int]:
    """Where a text of that width is cut: nowhere, everywhere, or anywhere."""
    every = list(range(1, width))
    some = data.draw(st.sampled_from([[], every, None]))
    return sorted(data.draw(st.sets(st.sampled_from(every)))) if some is None and every else some or []


@language_models
@heavy(4)
@given(text_rows(), scopes, seeds, st.data())
def test_chunks_and_single_tokens_have_the_logits_of_the_whole(name, rows, scope, seed, data):
    """Prefilling in pieces of any length, each with the items of its own tags, is one pass over all."""
    flamingo = make_flamingo(name, scope=scope)
    batch = batch_for(name, rows, seed)
    width = batch.input_ids.shape[1]
    whole = flamingo(**batch.arguments()).logits
    cuts = [0, *cuts_of(data, width), width]
    prompt = None
    for start, stop in itertools.pairwise(cuts):
        piece = batch.columns(start, stop)
        logits = flamingo(**piece.arguments(), prompt=prompt).logits
        close(logits[piece.real], whole[:, start:stop][piece.real], name)
        prompt = flamingo.prefill(**piece.arguments(), prompt=prompt)
        seen = batch.real[:, :stop].any(1)
        last = torch.where(batch.real[:, :stop], torch.arange(stop), -1).amax(1)
        close(prompt.logits[seen, 0], whole[seen, last[seen]], name)


@language_models
@heavy(4)
@given(prompt_rows(max_rows=1, padded=False), text_rows(), scopes, seeds)
def test_a_prompt_of_one_row_serves_many_queries(name, prompt_row, rows, scope, seed):
    """Each query gives what the whole text, prompt and query in one row, gives; pads of a query are skipped."""
    flamingo = make_flamingo(name, scope=scope)
    shared, queries = batch_for(name, prompt_row, seed), batch_for(name, rows, seed + 1)
    whole = shared.rows([0] * len(rows)).then(queries)
    expected = flamingo(**whole.arguments()).logits[:, shared.input_ids.shape[1] :]
    prompt = flamingo.prefill(**shared.arguments())
    actual = flamingo(**queries.arguments(), prompt=prompt).logits
    close(actual[queries.real], expected[queries.real], name)


@language_models
@heavy(4)
@given(prompt_rows(max_rows=1, padded=False), prompt_rows(), scopes, seeds)
def test_queries_behind_one_shared_row_score_and_generate_as_if_alone(name, shots, rows, scope, seed):
    """Queries of several lengths with images of their own, behind shots that ran once: each is the whole text alone."""
    flamingo = make_flamingo(name, scope=scope)
    shared, queries = batch_for(name, shots, seed), batch_for(name, rows, seed + 1)
    prompt = flamingo.prefill(**shared.arguments())
    candidates, arguments = [[5], [6, 7, 8]], {"max_new_tokens": 3, "eos_token_id": None, "do_sample": False}
    scores = flamingo.score(**queries.arguments(), candidates=candidates, prompt=prompt)
    texts = flamingo.generate(**queries.arguments(), prompt=prompt, **arguments)
    whole = shared.rows([0] * len(rows)).then(queries)
    for row in range(len(rows)):
        alone = whole.row(row).arguments()
        expected = flamingo.score(**alone, candidates=candidates)
        torch.testing.assert_close(scores.log_probs[row], expected.log_probs[0], atol=1e-4, rtol=1e-5)
        assert texts[row, -3:].tolist() == flamingo.generate(**alone, **arguments)[0, -3:].tolist()


@language_models
@heavy(6)
@given(prompt_rows(max_rows=2), text_rows(max_rows=2), text_rows(max_rows=2), seeds)
def test_a_prompt_is_never_changed_by_its_use(name, rows, first, second, seed):
    """Queries give the same logits bit for bit whatever the prompt was used for before, in either order."""
    flamingo = make_flamingo(name)
    prompt = flamingo.prefill(**batch_for(name, rows, seed).arguments())
    number = len(rows)
    queries = [batch_for(name, (tuple(turn) * number)[:number], seed).arguments() for turn in (first, second)]
    one, two = (flamingo(**query, prompt=prompt).logits for query in queries)
    flamingo.prefill(**queries[0], prompt=prompt)
    flamingo.generate(queries[0]["input_ids"], media=media_of(flamingo, queries[0]), prompt=prompt, max_new_tokens=2)
    flamingo.score(queries[1]["input_ids"], [[5], [6, 7]], media=media_of(flamingo, queries[1]), prompt=prompt)
    assert torch.equal(flamingo(**queries[1], prompt=prompt).logits, two)
    assert torch.equal(flamingo(**queries[0], prompt=prompt).logits, one)


def media_of(flamingo: Flamingo, arguments: dict[str, Any]):
    return flamingo.encode_media(arguments["pixels"], frame_valid=arguments["frame_valid"])


def by_hand(flamingo: Flamingo, row: Batch, steps: int, ends: list[int]) -> tuple[list[int], list[Tensor]]:
    """Greedy decoding of one row without pads: the whole text anew for each token. Also the logits of each step."""
    given = row.arguments()
    layout, media = flamingo.make_layout(row.input_ids), media_of(flamingo, given)
    ids, logits = row.input_ids, []
    for step in range(steps):
        logits.append(flamingo(ids, media=media, layout=layout.extend(step)).logits[0, -1])
        ids = torch.cat([ids, logits[-1].argmax()[None, None]], 1)
        if int(ids[0, -1]) in ends:
            break
    return ids[0, row.input_ids.shape[1] :].tolist(), logits


@of_transformers
@heavy(4)
@given(prompt_rows(), scopes, seeds)
def test_generate_is_the_loop_without_a_cache(name, rows, scope, seed):
    """Greedy ids and logits of a left-padded batch are those of each row alone, run anew for each token."""
    flamingo = make_flamingo(name, scope=scope)
    batch = make_batch(rows, seed)
    out = flamingo.generate(
        **batch.arguments(), max_new_tokens=4, do_sample=False, return_dict_in_generate=True, output_logits=True
    )
    for row in range(len(rows)):
        expected, logits = by_hand(flamingo, batch.row(row), 4, [END, END_OF_CHUNK])
        new = out.sequences[row, batch.input_ids.shape[1] :].tolist()
        assert new == expected + [0] * (len(new) - len(expected))
        for actual, wanted in zip(out.logits, logits, strict=False):
            torch.testing.assert_close(actual[row].float(), wanted.float(), atol=2e-5, rtol=2e-5)


WAYS = {
    "greedy": dict(do_sample=False),
    "beams": dict(num_beams=3, do_sample=False),
    "beams of one": dict(num_beams=1, do_sample=False),
    "several of the beams": dict(num_beams=3, num_return_sequences=2, do_sample=False),
    "samples": dict(do_sample=True, num_return_sequences=3, top_k=5),
}


@pytest.mark.parametrize("way", WAYS)
@of_transformers
@heavy(8)
@given(prompt_rows(max_rows=2), seeds, st.data())
def test_prompts_caches_and_beams_generate_the_same(name, way, rows, seed, data):
    """With a prompt, without, in chunks of the prompt, and without any cache, the ids are the same."""
    flamingo = make_flamingo(name)
    batch = make_batch(rows, seed)
    arguments = dict(max_new_tokens=4, **WAYS[way])

    def generated(piece: Batch, **more: Any) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return flamingo.generate(**piece.arguments(), **arguments, **more)

    expected = generated(batch)
    assert expected.shape[0] == len(rows) * WAYS[way].get("num_return_sequences", 1)
    assert torch.equal(generated(batch, use_cache=False), expected)
    cut = data.draw(st.integers(0, batch.input_ids.shape[1] - 1))
    if cut:
        prompt = flamingo.prefill(**batch.columns(0, cut).arguments())
        assert torch.equal(generated(batch.columns(cut), prompt=prompt), expected)


SEVERAL = list(range(3, 30))  # rows end at different columns
ENDINGS = {
    "the model's own": {},
    "named": dict(eos_token_id=7),
    "several": dict(eos_token_id=SEVERAL),
    "none": dict(eos_token_id=None),
    "beams": dict(num_beams=2),
}


class Conversation:
    """What one row said and saw, without any pad; what the model said is text, tags or not."""

    def __init__(self) -> None:
        self.ids, self.is_media, self.media = [], [], []

    def add(self, flamingo: Flamingo, turn: Batch, said: list[int]) -> None:
        self.ids += turn.input_ids[0].tolist() + said
        self.is_media += turn.is_media[0].tolist() + [False] * len(said)
        self.media.append(media_of(flamingo, turn.arguments()).media)

    def logits(self, flamingo: Flamingo) -> Tensor:
        layout = MediaLayout.from_tokens(torch.tensor([self.is_media], dtype=torch.bool))
        return flamingo(torch.tensor([self.ids]), media=torch.cat(self.media), layout=layout).logits[0]


@pytest.mark.parametrize("ending", ENDINGS)
@language_models
@heavy(8)
@given(prompt_rows(max_rows=2), prompt_rows(max_rows=2), text_rows(max_rows=2), seeds)
def test_a_conversation_goes_on_where_generation_ended(name, ending, first, second, third, seed):
    """Turns of text and images behind each `return_prompt` have the logits of the whole conversation at once."""
    plain = name in ("plain", "paper")
    arguments = {} if plain and ending == "beams" else ENDINGS[ending]
    ends = arguments.get("eos_token_id", [END_OF_CHUNK] if plain else [END, END_OF_CHUNK])
    flamingo = make_flamingo(name)
    number = 1 if name == "plain" else len(first)  # without a mask the rows would have to end at one column
    turns = [(tuple(rows) * number)[:number] for rows in (first, second, third)]
    turns = [batch_for(name, rows, seed + index) for index, rows in enumerate(turns)]
    prompt, rows, width = None, [Conversation() for _ in range(number)], 0
    for turn in turns[:2]:
        width += turn.input_ids.shape[1]
        more = dict(max_new_tokens=3, return_prompt=True, **arguments)
        out, prompt = flamingo.generate(**turn.arguments(), prompt=prompt, **more)
        for row, said in enumerate(out[:, width:].tolist()):
            rows[row].add(flamingo, turn.row(row), until_end(said, ends))
        width = out.shape[1]
    logits = flamingo(**turns[2].arguments(), prompt=prompt).logits
    for row, real in enumerate(turns[2].real):
        rows[row].add(flamingo, turns[2].row(row), [])
        close(logits[row][real], rows[row].logits(flamingo)[len(rows[row].ids) - int(real.sum()) :], name)


def until_end(ids: list[int], ends: int | list[int] | None) -> list[int]:
    ends = [ends] if isinstance(ends, int) else ends or []
    stops = [index for index, token in enumerate(ids) if token in ends]
    return ids[: stops[0] + 1] if stops else ids


@language_models
@heavy(4)
@given(
    prompt_rows(max_rows=2),
    seeds,
    st.lists(st.lists(st.integers(3, 48), min_size=1, max_size=3), min_size=1, max_size=4),
    st.sampled_from([1, 2, 3, 32]),
)
def test_scores_are_those_of_the_whole_text_one_candidate_at_a_time(name, rows, seed, candidates, at_once):
    """Summed log-probabilities of each row and candidate, as a full pass over prompt and candidate gives them.

    However many rows run in one call.
    """
    flamingo = make_flamingo(name)
    batch = batch_for(name, rows, seed)
    with patch.object(generation, "_ROWS_AT_ONCE", at_once):
        scores = flamingo.score(candidates=candidates, **batch.arguments())
        shared = scores
        if batch.input_ids.shape[1] > 1:
            query = batch.columns(batch.input_ids.shape[1] - 1)
            prompt = flamingo.prefill(**batch.columns(0, -1).arguments())
            shared = flamingo.score(**query.arguments(), candidates=candidates, prompt=prompt)
    for row in range(len(rows)):
        given = batch.row(row).arguments()
        layout = flamingo.make_layout(given["input_ids"])
        for index, candidate in enumerate(candidates):
            ids = torch.cat([given["input_ids"], torch.tensor([candidate])], 1)
            logits = flamingo(ids, media=media_of(flamingo, given), layout=layout.extend(len(candidate))).logits
            each = logits[0, -len(candidate) - 1 : -1].log_softmax(-1)[range(len(candidate)), candidate]
            torch.testing.assert_close(scores.log_probs[row, index].double(), each.sum(), atol=1e-4, rtol=1e-5)
            torch.testing.assert_close(shared.log_probs[row, index], scores.log_probs[row, index], atol=1e-4, rtol=1e-5)
            assert scores.num_tokens[row, index] == len(candidate)


@contextmanager
def counted(flamingo: Flamingo) -> Iterator[Counter]:
    """Count frames that reach the tower, and items that reach the resampler and each block's `project_media`."""
    counts: Counter = Counter()
    handles = [
        flamingo.vision.encoder.register_forward_pre_hook(lambda _, args: counts.update(frames=len(args[0]))),
        flamingo.resampler.register_forward_pre_hook(lambda _, args: counts.update(resampled=len(args[0]))),
    ]
    for name, block in flamingo.blocks.items():
        handles.append(
            block.attention.k_proj.register_forward_pre_hook(
                lambda _, args, name=name: counts.update({f"block {name}": len(args[0])})
            )
        )
    yield counts
    for handle in handles:
        handle.remove()


def once(flamingo: Flamingo, *batches: Batch) -> Counter:
    """What encoding and projecting each item of some batches once comes to."""
    items = sum(int(batch.is_media.sum()) for batch in batches)
    frames = sum(int(batch.num_frames[batch.is_media].sum()) for batch in batches)
    return Counter({"frames": frames, "resampled": items, **{f"block {name}": items for name in flamingo.blocks}})


@pytest.mark.parametrize("way", WAYS)
@of_transformers
@heavy(12)
@given(prompt_rows(max_rows=2), seeds)
def test_beams_and_samples_never_encode_or_project_an_item_twice(name, way, rows, seed):
    """However many sequences and steps, every frame, item and projection is computed once."""
    flamingo = make_flamingo(name)
    batch = make_batch(rows, seed)
    with counted(flamingo) as counts:
        flamingo.generate(**batch.arguments(), max_new_tokens=4, **WAYS[way])
    assert +counts == +once(flamingo, batch)


@language_models
@heavy(8)
@given(prompt_rows(max_rows=1, padded=False), text_rows(max_rows=3), text_rows(max_rows=3), seeds)
def test_shared_shots_never_encode_or_project_an_item_twice(name, shots, rows, more, seed):
    """Items of a shared prompt cost nothing in any of its queries, nor do those of earlier turns and of candidates."""
    flamingo = make_flamingo(name)
    number = len(rows)
    prompt_batch, first = batch_for(name, shots, seed), batch_for(name, rows, seed + 1)
    second = batch_for(name, (tuple(more) * number)[:number], seed + 2)
    with counted(flamingo) as counts:
        prompt = flamingo.prefill(**prompt_batch.arguments())
        flamingo(**first.arguments(), prompt=prompt)
        flamingo(**second.arguments(), prompt=prompt)
    assert +counts == +once(flamingo, prompt_batch, first, second)
    with counted(flamingo) as counts:
        flamingo.score(**last_column_real(first).arguments(), candidates=[[5], [6, 7]], prompt=prompt)
    assert +counts == +once(flamingo, last_column_real(first))


def last_column_real(batch: Batch) -> Batch:
    real = batch.real.clone()
    real[:, -1] = True
    return replace(batch, real=real)
