"""`generate` and `score`: what they take from transformers, where they stop, and what they refuse."""

import pytest
import torch
from torch import Tensor

from flamingo_blocks import Flamingo
from tests.flamingos import END_OF_CHUNK, NEW_TAG, PAD, TAG, TEXT, close, make_batch, make_flamingo
from tests.language_models import END, NAMES, OF_TRANSFORMERS, VOCAB, make_language_model

of_transformers = pytest.mark.parametrize("name", OF_TRANSFORMERS)
ROWS = ((PAD, TEXT, TAG, TEXT, TEXT), (TEXT, TAG, TEXT, TAG, TEXT))


def inclined(flamingo: Flamingo, token: int, row: int | None = None) -> Flamingo:
    """Make a token the likeliest at every step, of every row or of one: its logit is raised behind the head."""

    def raise_logit(module, args, logits: Tensor) -> Tensor:
        lift = torch.zeros_like(logits)
        rows = slice(None) if row is None else slice(row, row + 1)
        lift[rows, ..., token] = 100.0
        return logits + lift

    lm = flamingo.lm
    head = lm.get_output_embeddings() if hasattr(lm, "get_output_embeddings") else lm.head
    head.register_forward_hook(raise_logit)
    return flamingo


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("end", [END_OF_CHUNK, END])
def test_generation_stops_at_eoc_and_at_the_models_own_end(name, end):
    """Both ends count by default; a model without an end of its own stops at `<EOC>` alone."""
    flamingo = inclined(make_flamingo(name), end)
    ids = torch.tensor([[3, 4]])
    out = flamingo.generate(ids, max_new_tokens=3)
    stops = end == END_OF_CHUNK or name != "plain"
    assert out.tolist() == [[3, 4, *[end] * (1 if stops else 3)]]


@pytest.mark.parametrize("name", NAMES)
def test_ends_that_are_asked_for_replace_the_defaults(name):
    """`eos_token_id=None` never stops, another id stops there."""
    flamingo = inclined(make_flamingo(name), 7)
    ids = torch.tensor([[3, 4]])
    assert flamingo.generate(ids, max_new_tokens=3, eos_token_id=None).tolist() == [[3, 4, 7, 7, 7]]
    assert flamingo.generate(ids, max_new_tokens=3, eos_token_id=7).tolist() == [[3, 4, 7]]
    assert flamingo.generate(ids, max_new_tokens=3, eos_token_id=[9, 7]).tolist() == [[3, 4, 7]]
    ended = inclined(make_flamingo(name), END_OF_CHUNK)
    assert ended.generate(ids, max_new_tokens=3, eos_token_id=None).shape == (1, 5)


@of_transformers
def test_a_generation_config_is_obeyed_and_eoc_ends_beside_it(name):
    """Ends, beams and lengths of a config that is passed in hold, not those of the model."""
    import transformers

    ids = torch.tensor([[3, 4]])
    config = transformers.GenerationConfig(eos_token_id=7, max_new_tokens=3, pad_token_id=0)
    for token, stops in ((7, True), (END_OF_CHUNK, True), (END, False)):
        out = inclined(make_flamingo(name), token).generate(ids, generation_config=config)
        assert out.shape[1] == (3 if stops else 5)
    beams = transformers.GenerationConfig(num_beams=2, num_return_sequences=2, max_new_tokens=2, pad_token_id=0)
    batch = make_batch(ROWS, 0)
    flamingo = make_flamingo(name)
    expected = flamingo.generate(**batch.arguments(), num_beams=2, num_return_sequences=2, max_new_tokens=2)
    assert torch.equal(flamingo.generate(**batch.arguments(), generation_config=beams), expected)
    flamingo.lm.generation_config.update(num_beams=2, num_return_sequences=2)
    assert torch.equal(flamingo.generate(**batch.arguments(), max_new_tokens=2), expected)


OWN = {  # what a model says in its own config; `7` is what it would always say
    "ends": dict(eos_token_id=7),
    "pads": dict(eos_token_id=[7], pad_token_id=9),
    "beams": dict(num_beams=3, eos_token_id=None),
    "several beams": dict(num_beams=2, num_return_sequences=2, eos_token_id=None),
    "no cache": dict(use_cache=False, eos_token_id=None),
    "another cache": dict(cache_implementation="static", eos_token_id=None),
    "prompt look-up": dict(prompt_lookup_num_tokens=2, eos_token_id=None),
}


@of_transformers
@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("behind_a_prompt", [False, True])
def test_what_a_config_leaves_open_is_the_models_own(name, own, behind_a_prompt):
    """Ends, pads, beams, samples and caches of the model hold beside a config that does not speak of them."""
    import transformers

    flamingo, batch = make_flamingo(name), make_batch(ROWS[1:] if own == "prompt look-up" else ROWS, 0)
    flamingo.lm.generation_config.update(**OWN[own])
    given = batch.arguments()
    if OWN[own]["eos_token_id"] is not None:
        inclined(flamingo, 7, row=0)
    if behind_a_prompt:
        prompt = flamingo.prefill(**batch.columns(0, 2).arguments())
        given = batch.columns(2).arguments() | {"prompt": prompt}
    expected = flamingo.generate(**given, max_new_tokens=3)
    config = transformers.GenerationConfig(max_new_tokens=3)
    assert torch.equal(flamingo.generate(**given, generation_config=config), expected)
    if own == "pads":
        assert expected[0, -3:].tolist() == [7, 9, 9]


@of_transformers
def test_an_argument_goes_before_a_config_and_that_before_the_models_own(name):
    """For ends and for the number of rows that are made of one."""
    import transformers

    flamingo, ids = inclined(make_flamingo(name), 7), torch.tensor([[3, 4]])
    flamingo.lm.generation_config.update(eos_token_id=7, num_beams=3, num_return_sequences=3)
    config = transformers.GenerationConfig(max_new_tokens=3, eos_token_id=8, num_beams=2, num_return_sequences=2)
    assert flamingo.generate(ids, max_new_tokens=3).shape[0] == 3
    assert flamingo.generate(ids, generation_config=config).shape == (2, 5)
    one = dict(num_beams=1, num_return_sequences=1)
    assert flamingo.generate(ids, generation_config=config, **one).tolist() == [[3, 4, 7, 7, 7]]
    assert flamingo.generate(ids, generation_config=config, eos_token_id=7, **one).tolist() == [[3, 4, 7]]
    never = transformers.GenerationConfig(max_new_tokens=3, eos_token_id=7)
    out = flamingo.generate(ids, generation_config=never, eos_token_id=None, **one)
    assert out.tolist() == [[3, 4, 7, 7, 7]]


def test_a_config_comes_to_the_model_alone_and_is_not_changed(monkeypatch):
    """Ends and pad stand in a copy of it: transformers warns of arguments beside a config."""
    import transformers

    flamingo, seen = make_flamingo("llama"), {}
    flamingo.lm.generation_config.pad_token_id = None
    own = flamingo.lm.generate
    monkeypatch.setattr(flamingo.lm, "generate", lambda *args, **given: seen.update(given) or own(*args, **given))
    config = transformers.GenerationConfig(max_new_tokens=2)
    flamingo.generate(torch.tensor([[3, 4]]), generation_config=config)
    assert seen.keys() == {"attention_mask", "generation_config"}
    assert (config.eos_token_id, config.pad_token_id) == (None, None)
    assert (seen["generation_config"].eos_token_id, seen["generation_config"].pad_token_id) == (
        [END, END_OF_CHUNK],
        END,
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ends", [torch.tensor([9, 7]), torch.tensor(7), (9, 7)])
def test_ends_may_be_a_tensor(name, ends):
    """As in transformers; a conversation knows them too."""
    flamingo, ids = inclined(make_flamingo(name), 7), torch.tensor([[3, 4]])
    assert flamingo.generate(ids, max_new_tokens=3, eos_token_id=ends).tolist() == [[3, 4, 7]]
    out, prompt = flamingo.generate(ids, max_new_tokens=3, eos_token_id=ends, return_prompt=True)
    assert torch.equal(prompt.input_ids, out) and prompt.attention_mask.all()


@of_transformers
def test_rows_that_end_are_padded(name):
    """With the model's pad; with the first end where it has none."""
    flamingo = inclined(make_flamingo(name), END_OF_CHUNK, row=0)
    batch = make_batch(ROWS, 0)
    arguments = dict(max_new_tokens=3, eos_token_id=END_OF_CHUNK)
    assert flamingo.generate(**batch.arguments(), **arguments)[0, -3:].tolist() == [END_OF_CHUNK, 0, 0]
    flamingo.lm.generation_config.pad_token_id = None
    out = flamingo.generate(**batch.arguments(), **arguments)
    assert out[0, -3:].tolist() == [END_OF_CHUNK] * 3


@pytest.mark.parametrize("name", ["llama", "plain"])
def test_a_tag_that_the_model_says_changes_nothing_for_anyone(name):
    """A row that emits the media tag has no image more, and the other rows keep theirs."""
    batch = make_batch(tuple(row[1:] for row in ROWS), 0)
    flamingo = make_flamingo(name)
    arguments = dict(max_new_tokens=3, eos_token_id=None)
    before = flamingo.generate(**batch.arguments(), **arguments)
    after = inclined(flamingo, NEW_TAG, row=0).generate(**batch.arguments(), **arguments)
    assert after[0, -3:].tolist() == [NEW_TAG] * 3
    assert torch.equal(after[1], before[1])


class Recorder:
    """A streamer that remembers what it was given."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.ended = False

    def put(self, value: Tensor) -> None:
        self.tokens += value.flatten().tolist()

    def end(self) -> None:
        self.ended = True


@pytest.mark.parametrize("name", NAMES)
def test_a_streamer_hears_every_token(name):
    """First the prompt, then each new token, and the end."""
    flamingo, streamer = make_flamingo(name), Recorder()
    out = flamingo.generate(torch.tensor([[3, 4]]), max_new_tokens=4, streamer=streamer)
    assert streamer.tokens == out[0].tolist() and streamer.ended


@of_transformers
@pytest.mark.parametrize("kind", ["static", "prompt look-up", "assistant", "no cache", "chunks"])
def test_other_ways_of_decoding_say_the_same(name, kind):
    """A cache of fixed size or none, assisted decoding, which takes steps back, and chunks, behind a prompt or not."""
    if kind == "chunks" and not prefills_in_chunks():
        pytest.skip("this version of transformers prefills in chunks only from a cache that it is handed")
    flamingo = make_flamingo(name)
    batch = make_batch((ROWS[1] * 2,), 0)
    expected = flamingo.generate(**batch.arguments(), max_new_tokens=8, eos_token_id=END)
    ways = {
        "static": dict(cache_implementation="static"),
        "prompt look-up": dict(prompt_lookup_num_tokens=2),
        "assistant": dict(assistant_model=assistant_for(name)),
        "no cache": dict(use_cache=False),
        "chunks": dict(prefill_chunk_size=3),
    }
    way = dict(max_new_tokens=8, eos_token_id=END, **ways[kind])
    assert torch.equal(flamingo.generate(**batch.arguments(), **way), expected)
    prompt = flamingo.prefill(**batch.columns(0, 4).arguments())
    assert torch.equal(flamingo.generate(**batch.columns(4).arguments(), prompt=prompt, **way), expected)
    assert flamingo.lm.config.vocab_size == VOCAB


def prefills_in_chunks() -> bool:
    """Whether a bare model of this version of transformers can."""
    try:
        make_language_model("gpt2").generate(torch.tensor([[3, 4]]), prefill_chunk_size=1, max_new_tokens=1)
    except ValueError:
        return False
    return True


def assistant_for(name: str):
    """A bare model that knows as many tokens."""
    lm = make_language_model(name)
    lm.resize_token_embeddings(lm.config.vocab_size + 2, mean_resizing=False)
    return lm.double()


def test_a_window_smaller_than_the_text_is_kept_by_caches_and_chunks():
    """Gemma's sliding layers forget; with a prompt, with a cache and without any, they forget the same."""
    flamingo = make_flamingo("gemma3", lm=make_language_model("gemma3", sliding_window=4))
    batch = make_batch((ROWS[1] * 2,), 0)
    whole = flamingo(**batch.arguments()).logits
    prompt = None
    for column in range(10):
        piece = batch.columns(column, column + 1).arguments()
        close(flamingo(**piece, prompt=prompt).logits, whole[:, column : column + 1], "gemma3")
        prompt = flamingo.prefill(**piece, prompt=prompt)
    expected = flamingo.generate(**batch.arguments(), max_new_tokens=6, use_cache=False)
    assert torch.equal(flamingo.generate(**batch.arguments(), max_new_tokens=6), expected)


@pytest.mark.parametrize("where", ["arguments", "config", "model"])
def test_return_prompt_needs_one_sequence_a_row(where):
    """Of several sequences a row there is no one conversation: said before anything is encoded or generated."""
    import transformers

    flamingo = make_flamingo("gpt2")
    several: dict = dict(num_beams=2, num_return_sequences=2)
    if where == "config":
        several = dict(generation_config=transformers.GenerationConfig(**several))
    elif where == "model":
        flamingo.lm.generation_config.update(**several)
        several = {}
    ran = []
    for part in (flamingo.lm, flamingo.vision):
        part.register_forward_pre_hook(lambda *_: ran.append(1))
    given = dict(pixels=torch.zeros(1, 1, 3, 8, 8, dtype=torch.float64), max_new_tokens=1, return_prompt=True)
    message = "return_prompt is True and num_return_sequences 2, but .*; wanted num_return_sequences=1"
    with pytest.raises(ValueError, match=message):
        flamingo.generate(torch.tensor([[NEW_TAG]]), **given, **several)
    assert not ran


def test_return_prompt_beside_a_dictionary():
    """`return_dict_in_generate` gives transformers' own object, and the prompt beside it."""
    flamingo = make_flamingo("gpt2")
    out, prompt = flamingo.generate(
        torch.tensor([[3]]), max_new_tokens=2, return_prompt=True, return_dict_in_generate=True, eos_token_id=None
    )
    assert torch.equal(prompt.input_ids, out.sequences)
    close(prompt.logits, flamingo(out.sequences).logits[:, -1:])


@pytest.mark.parametrize("call", ["generate", "beams", "score"])
def test_a_call_leaves_the_models_gradients_and_modes_alone(call):
    """Neither keeps a graph, nor changes whether parameters train or modules are in training mode."""
    flamingo = make_flamingo("gpt2").train()
    modes = [module.training for module in flamingo.modules()]
    ids = torch.tensor([[3, NEW_TAG]])
    given = dict(pixels=torch.zeros(1, 1, 3, 8, 8, dtype=torch.float64))
    if call == "score":
        assert not flamingo.score(ids, [[3]], **given).log_probs.requires_grad
    else:
        flamingo.generate(ids, **given, max_new_tokens=2, num_beams=2 if call == "beams" else 1)
    assert [module.training for module in flamingo.modules()] == modes
    assert all(weight.requires_grad for weight in flamingo.blocks.parameters())
    with pytest.raises(RuntimeError, match="called without media"):
        flamingo.lm(ids)


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ([], "candidates is empty; give at least one list of token ids"),
        ([[3], []], "candidate 1 has no token; give each candidate one token or more"),
        ([[3, NEW_TAG]], r"candidate 0 holds the media tag \(id 50\); candidates are text"),
    ],
)
def test_candidates_are_checked(candidates, message):
    """Each slip has its own message, with the candidate's number."""
    with pytest.raises(ValueError, match=message):
        make_flamingo("plain").score(torch.tensor([[3]]), candidates)


@pytest.mark.parametrize("name", NAMES)
def test_scores_of_single_tokens_are_the_log_probabilities_of_the_next(name):
    """All words scored as candidates sum to one; the candidate's own token runs through no model."""
    flamingo = make_flamingo(name)
    ids = torch.tensor([[3, 4], [5, 6]])
    scores = flamingo.score(ids, [[token] for token in range(52) if token != NEW_TAG])
    expected = flamingo(ids).logits[:, -1].log_softmax(-1)
    expected = torch.cat([expected[:, :NEW_TAG], expected[:, NEW_TAG + 1 :]], 1)
    torch.testing.assert_close(scores.log_probs.double(), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(scores.num_tokens, torch.ones(2, 51, dtype=torch.long))


def test_a_model_without_generate_has_no_beams():
    """A plain decoder has greedy choice and sampling; asking for more names both lists."""
    message = (
        "num_beams, penalty given, but PlainDecoder has no generate of its own, and the plain loop takes max_new_tok"
    )
    with pytest.raises(ValueError, match=message):
        make_flamingo("plain").generate(torch.tensor([[3]]), max_new_tokens=1, num_beams=2, penalty=1)
