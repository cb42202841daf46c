"""What a decoder writes and when it stops, and what it refuses."""

import pytest
import torch

from flamingo_blocks.data import InterleavedDocument
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.decode import Decoder, batch_sizes
from tests.evaluation.decode.drawn_episodes import after, begun, decoder_of, image, processor_of, query, shot
from tests.flamingos import END_OF_CHUNK, NEW_TAG, make_flamingo
from tests.language_models import END


def always(flamingo, token):
    """Make a model write one token, whatever it reads."""

    def only(module, args, output):
        logits = output if isinstance(output, torch.Tensor) else output.logits
        logits = torch.full_like(logits, -9.0)
        logits[..., token] = 9.0
        if isinstance(output, torch.Tensor):
            return logits
        output.logits = logits
        return output

    flamingo.lm.register_forward_hook(only)
    return flamingo


@pytest.mark.parametrize(
    ("token", "stopped_by", "text", "count"),
    [(END_OF_CHUNK, "end_of_chunk", "", 1), (END, "end_of_text", "", 1), (7, "length", "hhhh", 4)],
)
@pytest.mark.parametrize("num_beams", [1, 3])
def test_writing_stops_at_an_end_or_at_its_length(token, stopped_by, text, count, num_beams):
    """The text ends before what stopped it, and the reason is told."""
    decoder = decoder_of("llama", flamingo=always(make_flamingo("llama"), token), num_beams=num_beams)
    (found,) = decoder.write([query(1)], prompt=decoder.begin(shot(1)))
    assert (found.stopped_by, found.text, len(found.ids)) == (stopped_by, text, count)


@pytest.mark.parametrize("name", ["llama", "plain"])
def test_a_tag_is_never_written(name):
    """Not even where it is by far the likeliest token."""
    decoder = decoder_of(name, flamingo=always(make_flamingo(name), NEW_TAG))
    (found,) = decoder.write([query(1)])
    assert NEW_TAG not in found.ids


def test_the_number_of_tokens_may_be_another_for_one_call():
    """A task that knows better than the profile says so with its queries."""
    decoder = decoder_of("llama", flamingo=always(make_flamingo("llama"), 7), max_new_tokens=3)
    assert [len(decoder.write([query(1)], max_new_tokens=n)[0].ids) for n in (2, 7, None)] == [2, 7, 3]


def test_settings_of_the_language_model_do_not_enter():
    """A generation config that samples, or punishes repetition, is that of a chat and not of a benchmark."""
    plain = decoder_of("llama", max_new_tokens=8)
    wanted = plain.write([query(1), query(2)])
    lm = plain.flamingo.lm
    lm.generation_config.update(do_sample=True, top_k=3, repetition_penalty=5.0, num_return_sequences=2, min_length=30)
    assert plain.write([query(1), query(2)]) == wanted


def test_beams_are_refused_where_nothing_searches_them():
    """A language model without `generate` chooses greedily; the message says what to pass."""
    with pytest.raises(
        EvaluationError, match="num_beams is 3, but PlainDecoder has no generate of its own.*num_beams=1"
    ):
        decoder_of("plain", num_beams=3).write([query(1)])


def test_an_empty_query_is_refused():
    """It has nothing to answer behind a prompt."""
    decoder = decoder_of("llama")
    with pytest.raises(EvaluationError, match="query 1 has neither text nor image"):
        decoder.write([query(1), InterleavedDocument(())], prompt=decoder.begin(shot(1)))


def test_no_queries_are_no_trouble():
    """Nothing comes back of nothing."""
    decoder = decoder_of("llama")
    assert decoder.write([]) == [] and decoder.score([], []) == []


@pytest.mark.usefixtures("without_shape_checks")
def test_what_does_not_fit_together_is_refused():
    """Another tag, another scope, no end where it is scored, numbers below one, words that mean nothing."""
    flamingo = make_flamingo("llama")
    with pytest.raises(EvaluationError, match=f"the tag of processor is 7, that of flamingo {NEW_TAG}"):
        Decoder(flamingo, processor_of(media_token_id=7))
    with pytest.raises(EvaluationError, match="scope of processor is 'all', that of flamingo 'last'"):
        Decoder(flamingo, processor_of(scope="all"))
    with pytest.raises(EvaluationError, match="terminator is True, but processor has no <EOC>"):
        Decoder(flamingo, processor_of(end_token_id=None))
    with pytest.raises(EvaluationError, match="num_beams is 0, wanted 1 or more"):
        Decoder(flamingo, processor_of(), num_beams=0)
    with pytest.raises(EvaluationError, match="share is 'never' and scorer 'auto'"):
        Decoder(flamingo, processor_of(), share="never")


def test_tokens_and_their_limit_are_told():
    """So that whoever makes prompts can leave out shots."""
    decoder = decoder_of("llama")
    assert decoder.tokens(after([shot(1)], query(0))) == 1 + 4 + 1 + 1 + 2
    assert decoder.max_tokens == 64
    assert decoder_of("plain").max_tokens is None


def test_batches_follow_from_the_memory(monkeypatch):
    """Twice the memory is twice the queries at once, and one query runs whatever there is."""
    sizes = []
    numbered = batch_sizes._numbered
    monkeypatch.setattr(batch_sizes, "_numbered", lambda batch, run: sizes.append(len(batch)) or numbered(batch, run))
    queries = [InterleavedDocument.from_parts([image(number), "O:"]) for number in range(8)]
    for memory_bytes in (1, 200_000, 400_000, 2**31):
        decoder_of("llama", memory_bytes=memory_bytes, share=False, scorer="copies").write(queries)
    ones, few, many, all_at_once = sizes[:8], sizes[8:], sizes, sizes[-1]
    assert ones == [1] * 8 and all_at_once == 8
    assert len(few) < len(many)


def test_the_mode_of_a_model_is_given_back():
    """It is asked in eval mode, and trains on afterwards."""
    decoder = decoder_of("llama")
    decoder.flamingo.train()
    modes = [part.training for part in decoder.flamingo.modules()]
    decoder.write([query(1)], prompt=begun(decoder, [shot(1)]))
    decoder.score([query(1)], [["a", "b"]])
    assert [part.training for part in decoder.flamingo.modules()] == modes and True in modes
