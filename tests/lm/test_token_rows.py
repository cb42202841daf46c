"""Trained rows for new tokens beside a frozen table and head."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from flamingo_blocks.lm import TokenRows, attach_token_rows
from tests.language_models import DIM, NAMES, VOCAB, PlainDecoder, draw_weights, make_language_model

IDS = torch.tensor([[5, VOCAB, 6, VOCAB + 1, 7]])
TIED = {"llama": False, "gpt2": True, "opt": True, "gemma3": True, "plain": False}
language_models = pytest.mark.parametrize("name", NAMES)


def logits_of(lm: nn.Module, input_ids: Tensor) -> Tensor:
    out = lm(input_ids)
    return out if isinstance(out, Tensor) else out.logits


def with_rows(name: str, **options) -> tuple[nn.Module, TokenRows]:
    lm = make_language_model(name)
    rows = attach_token_rows(lm, 2, **options)
    draw_weights(rows, 5)
    return lm, rows


def resized(name: str, rows: TokenRows) -> nn.Module:
    """The same model with the rows written into a longer table and head of its own."""
    lm = make_language_model(name)
    if name == "plain":
        tables = [("embedding", lm.embedding, rows.input), ("head", lm.head, rows.output)]
        for attribute, old, new in tables:
            longer = copy.deepcopy(old)
            longer.weight = nn.Parameter(torch.cat([old.weight, new]))
            if getattr(old, "bias", None) is not None:
                longer.bias = nn.Parameter(torch.cat([old.bias, torch.zeros(2)]))
            setattr(lm, attribute, longer)
        return lm
    lm.resize_token_embeddings(VOCAB + 2, mean_resizing=False)
    with torch.no_grad():
        lm.get_input_embeddings().weight[VOCAB:] = rows.input
        lm.get_output_embeddings().weight[VOCAB:] = rows.output
    return lm


@language_models
def test_rows_are_a_longer_table_and_head(name):
    """Logits equal those of the model whose table and head were resized; Gemma scales what it looks up."""
    lm, rows = with_rows(name)
    actual = logits_of(lm, IDS)
    assert actual.shape == (1, 5, VOCAB + 2)
    torch.testing.assert_close(actual, logits_of(resized(name, rows), IDS), atol=1e-5, rtol=1e-5)


@language_models
def test_tables_that_are_one_get_rows_that_are_one(name):
    """Where the model ties its head to its table, one parameter serves both here too; elsewhere there are two."""
    lm, rows = with_rows(name)
    table, head = rows_of(lm, name)
    assert (table.weight is head.weight) == TIED[name]
    assert (rows.input is rows.output) == TIED[name]
    assert len(list(rows.parameters())) == (1 if TIED[name] else 2)


def rows_of(lm: nn.Module, name: str) -> tuple[nn.Module, nn.Module]:
    return (lm.embedding, lm.head) if name == "plain" else (lm.get_input_embeddings(), lm.get_output_embeddings())


@language_models
def test_known_tokens_are_as_before(name):
    """Texts of known words have the logits they had, bit for bit, over the words that were known."""
    lm, _ = with_rows(name)
    ids = torch.tensor([[3, 4, 5]])
    assert torch.equal(logits_of(lm, ids)[..., :VOCAB], logits_of(make_language_model(name), ids))


@language_models
def test_only_the_rows_get_a_gradient(name):
    """Beside a frozen model the rows train, in and out."""
    lm, rows = with_rows(name)
    lm.requires_grad_(False)
    logits_of(lm, IDS).square().sum().backward()
    assert all(row.grad.abs().sum() > 0 for row in rows.parameters())
    assert all(weight.grad is None for weight in lm.parameters())


@language_models
def test_detaching_rows_gives_the_model_back(name):
    """No hook, no key and no attribute is left, and the new ids are unknown again."""
    lm = make_language_model(name)
    before = [(type(module), list(vars(module)), len(module._forward_hooks)) for module in lm.modules()]
    keys = list(lm.state_dict())
    rows = attach_token_rows(lm, 2)
    assert list(lm.state_dict()) == keys
    with pytest.raises(ValueError, match="has token rows already; call detach"):
        attach_token_rows(lm, 1)
    rows.detach()
    assert [(type(module), list(vars(module)), len(module._forward_hooks)) for module in lm.modules()] == before
    assert torch.equal(logits_of(lm, IDS[:, :1]), logits_of(make_language_model(name), IDS[:, :1]))
    with pytest.raises(IndexError):
        lm(IDS)


@language_models
@pytest.mark.parametrize("bad", [VOCAB + 2, -1])
def test_ids_that_do_not_exist_are_an_error(name, bad):
    """On the CPU, as the table itself would have told; and the model is as before afterwards."""
    lm, _ = with_rows(name)
    before = logits_of(lm, IDS)
    with pytest.raises(IndexError):
        lm(torch.tensor([[3, bad]]))
    assert torch.equal(logits_of(lm, IDS), before)


def test_the_error_of_an_unknown_id_tells_the_limit():
    """The id, and the last one that the model knows with its new rows."""
    lm, _ = with_rows("plain")
    with pytest.raises(IndexError, match="token id 52 is out of range: the model knows ids 0 to 51"):
        lm(torch.tensor([[52]]))


def test_rows_start_as_the_mean_of_the_table_or_as_told():
    """The mean is a word like any other to the model; `init` says otherwise for the input rows."""
    lm = make_language_model("plain")
    rows = attach_token_rows(lm, 2)
    for row in rows.input:
        torch.testing.assert_close(row, lm.embedding.weight.mean(0))
    for row in rows.output:
        torch.testing.assert_close(row, lm.head.weight.mean(0))
    rows.detach()
    start = torch.arange(2 * DIM).reshape(2, DIM).float()
    assert torch.equal(attach_token_rows(lm, 2, init=start).input, start)


@language_models
def test_rows_train_in_float32_beside_a_model_in_bfloat16(name):
    """Their dtype is float32, the model's residual and logits stay in bfloat16."""
    lm = make_language_model(name).bfloat16()
    rows = attach_token_rows(lm, 2)
    assert rows.input.dtype == rows.output.dtype == torch.float32
    assert logits_of(lm, IDS).dtype == torch.bfloat16
    assert rows.token_ids == [VOCAB, VOCAB + 1]


@language_models
def test_rows_attach_on_the_meta_device(name):
    """No value of the model is read."""
    rows = attach_token_rows(make_language_model(name).to("meta"), 2)
    assert rows.input.device.type == rows.output.device.type == "meta"


def test_positions_are_not_taken_for_words():
    """Of two embeddings in a decoder of one's own the one as long as the head is meant."""
    lm = make_language_model("plain")
    assert isinstance(lm.positions, nn.Embedding)
    assert logits_of(with_rows("plain")[0], IDS).shape[-1] == VOCAB + 2


def test_what_cannot_be_found_is_named():
    """Several tables, no head, another length, a name that is none: each error says what to pass."""
    lm = PlainDecoder(max_text=VOCAB)
    with pytest.raises(ValueError, match=r"2 modules that could be its embedding: \['embedding', 'positions'\]; pass"):
        attach_token_rows(lm, 1)
    assert attach_token_rows(lm, 1, embedding="embedding").token_ids == [VOCAB]
    with pytest.raises(ValueError, match=r"0 modules that could be its head: \[\]; pass head="):
        attach_token_rows(nn.Sequential(nn.Embedding(5, 2)), 1)
    with pytest.raises(ValueError, match="the head has 4 rows, the embedding 5; new ids need both alike"):
        attach_token_rows(nn.Sequential(nn.Embedding(5, 2), nn.Linear(2, 4)), 1)
    with pytest.raises(ValueError, match="head='lm_head' names no module of PlainDecoder"):
        attach_token_rows(PlainDecoder(), 1, head="lm_head")
    with pytest.raises(ValueError, match="num_tokens is 0, wanted 1 or more"):
        attach_token_rows(PlainDecoder(), 0)
    twice = nn.Sequential(nn.Embedding(5, 2), nn.Linear(2, 5), nn.Linear(5, 5))
    with pytest.raises(ValueError, match=r"2 modules that could be its head: \['1', '2'\]; pass head="):
        attach_token_rows(twice, 1)


def test_threads_that_run_one_model_look_up_their_own_words():
    """Also where each has shown its ids to the table before one of them looks up its rows."""
    lm, _ = with_rows("plain")
    texts = [IDS, torch.tensor([[VOCAB + 1, 8]])]
    expected = [logits_of(lm, ids) for ids in texts]
    both_are_in = threading.Barrier(2)

    def wait(module, args):
        both_are_in.wait(timeout=60)

    lm.embedding.register_forward_pre_hook(wait)
    with ThreadPoolExecutor(2) as threads:
        for actual, wanted in zip(threads.map(lambda ids: logits_of(lm, ids), texts), expected, strict=True):
            assert torch.equal(actual, wanted)


def test_a_copy_of_a_model_looks_up_rows_of_its_own():
    """The copy gives what the model gives, and takes its rows from its own parameters."""
    lm, rows = with_rows("plain")
    twin = copy.deepcopy(nn.ModuleList([lm, rows]))
    expected = logits_of(lm, IDS)
    with torch.no_grad():
        rows.input.zero_()
    assert torch.equal(logits_of(twin[0], IDS), expected)


def test_table_and_head_may_be_called_by_keyword():
    """Torch calls what enters `input`."""
    lm, _ = with_rows("plain")
    embedded = lm.embedding(IDS)
    assert torch.equal(lm.embedding(input=IDS), embedded)
    assert torch.equal(lm.head(input=embedded), lm.head(embedded))


@pytest.mark.parametrize("shape", [(3, DIM), (2, DIM + 1), (1, DIM)])
def test_first_values_have_the_shape_of_the_rows(shape):
    """The error says both shapes, one row is not spread over several tokens, and the model is as before."""
    lm = make_language_model("plain")
    with pytest.raises(ValueError, match=rf"init has shape \({shape[0]}, {shape[1]}\), wanted \(2, {DIM}\)"):
        attach_token_rows(lm, 2, init=torch.zeros(shape))
    attach_token_rows(lm, 2, init=torch.zeros(2, DIM))
