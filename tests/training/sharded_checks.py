"""What several processes check together on sharded models; `test_shard.py` says what has to come out.

Each check runs in all processes of a group alike, and gives plain values.
"""

import itertools
import warnings
from contextlib import contextmanager
from random import Random

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh

from flamingo_blocks.lm import checkpoint_layers
from flamingo_blocks.models import build_tiny_flamingo, compile_regions
from flamingo_blocks.models.output_head import counted_labels
from flamingo_blocks.ops.next_token_loss import shifted_labels
from flamingo_blocks.training.ranks.gradients import averaged_over, clip_gradients, gradient_sync, sum_over_ranks
from flamingo_blocks.training.ranks.precision import prepare_precision
from flamingo_blocks.training.ranks.shard import shard
from tests.flamingos import EXAMPLE_ROWS, make_batch, make_flamingo
from tests.training.sharded_messages import Messages, kept_by_shards

TAG, ROWS, LENGTH = 32, 8, 7
FROZEN = ("replicate", "shard")
WAYS = {frozen: {"frozen": frozen} for frozen in FROZEN} | {"kept": {"frozen": "shard", "reshard_after_forward": False}}
SEEDS = range(6)


def make_model(*, closed=False, dtype=torch.float32):
    """A Flamingo of four layers with blocks before the first and the third, their gates open."""
    flamingo = build_tiny_flamingo(depth=4, every=2)
    for block in flamingo.blocks.values():
        for gate in (block.attention_gate.gate, block.feed_forward_gate.gate):
            nn.init.constant_(gate, 0.0 if closed else 0.5)
    return flamingo.to(dtype)


def make_rows():
    """Rows with two images, with none, with one; the last one has no label, the one before it nothing but images."""
    noise = torch.Generator().manual_seed(0)
    ids = torch.randint(3, TAG, (ROWS, LENGTH), generator=noise)
    for row, columns in enumerate([(1, 4), (), (2,), (), (0, 3), (5,), range(LENGTH), (1,)]):
        ids[row, list(columns)] = TAG
    labels = ids.clone()
    labels[-1] = -100
    return [(ids[row], labels[row], torch.randn(int((ids[row] == TAG).sum()), 1, 3, 8, 8, generator=noise))
            for row in range(ROWS)]  # fmt: skip


def batch_of(rows):
    ids, labels, pixels = zip(*rows, strict=True)
    pixels = torch.cat(pixels)
    return {"input_ids": torch.stack(ids), "labels": torch.stack(labels)} | (
        {"pixels": pixels} if len(pixels) else {}  # no argument at all, as text alone comes
    )


def num_labels(batch) -> Tensor:
    counted = counted_labels(TAG, batch["labels"], batch["input_ids"], None)
    return (shifted_labels(counted) != -100).sum()


def accumulate(model, batches, *, keep_gathered=False):
    """Backward of the mean over all labels of all ranks, in several micro-batches."""
    total = sum_over_ranks(sum(num_labels(batch) for batch in batches))
    for number, batch in enumerate(batches, 1):
        with gradient_sync(model, last=number == len(batches), keep_gathered=keep_gathered):
            loss = model(**batch).loss * num_labels(batch) / total * averaged_over(model)
            loss.backward()


def whole(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def gradients_of(model):
    return {name: None if p.grad is None else whole(p.grad) for name, p in model.trained_parameters().items()}


def expected_gradients():
    """Of one process on the whole batch."""
    model, batch = make_model(), batch_of(make_rows())
    model(**batch).loss.backward()
    return gradients_of(model)


@torch.no_grad()
def error(actual, expected):
    """The largest difference; infinite where a parameter has no gradient."""
    assert actual.keys() == expected.keys()
    return max(float("inf") if g is None else float((g - expected[name]).abs().max()) for name, g in actual.items())


def split(seed, *, micro_batches=None):
    """The rows spread at random over ranks and micro-batches: those of this rank, at least one row each."""
    rng, world = Random(seed), distributed.get_world_size()  # noqa: S311 - no secret
    rows = make_rows()
    rng.shuffle(rows)
    micro_batches = rng.randint(1, ROWS // world) if micro_batches is None else micro_batches
    cells = [[row] for row in rows[: world * micro_batches]]
    for row in rows[len(cells) :]:
        rng.choice(cells).append(row)
    mine = cells[distributed.get_rank() * micro_batches :][:micro_batches]
    return [batch_of(cell) for cell in mine]


def held_of(model):
    """What is left gathered of that which is sharded."""
    sharded = ("lm.layers.3.",) if hasattr(model.lm.layers[3], "unshard") else ()
    ours = {name: p for name, p in model.named_parameters() if p.requires_grad or name.startswith(sharded)}
    return [name for name, p in ours.items() if not hasattr(p, "device_mesh")]


def plainly(model, **options):
    return shard(model, mixed_precision=False, **options)


def check_gradients(ways):
    """Error of the gradients by block checkpointing, checkpointing of the language model, and way of sharding."""
    expected, found = expected_gradients(), {}
    for name, options in ways().items():
        for blocks, layers in itertools.product((False, True), repeat=2) if name in FROZEN else [(True, True)]:
            model = make_model()
            for part in (*model.blocks.values(), model.resampler):
                part.activation_checkpointing = blocks
            if layers:
                checkpoint_layers(model.lm)
            plainly(model.train(), **options)
            accumulate(model, split(0, micro_batches=2))
            found[name, blocks, layers] = error(gradients_of(model), expected)
    return found


def ways_of_two():
    """As torchrun offers them to two processes."""
    names = ("replicate", "shard")
    return WAYS | {
        "two replicas": {"mesh": init_device_mesh("cpu", (2, 1), mesh_dim_names=names), "frozen": "shard"},
        "one replica": {"mesh": init_device_mesh("cpu", (1, 2), mesh_dim_names=names), "frozen": "shard"},
    }


def ways_of_four():
    """Two machines of two processes; `LOCAL_WORLD_SIZE` is set."""
    return {frozen: {"frozen": frozen, "hybrid": True} for frozen in FROZEN}


def check_splits():
    """Error of the gradients by seed: rows on any rank, in any micro-batch."""
    expected, model = expected_gradients(), plainly(make_model())
    found = {}
    for seed in SEEDS:
        model.zero_grad()
        accumulate(model, split(seed), keep_gathered=bool(seed % 2))
        found[seed] = error(gradients_of(model), expected)
    return found


def check_clipping():
    """Norms and clipped gradients of one process and of all, and what is left of gradients that are not finite."""
    plain, model = make_model(), plainly(make_model(), frozen="shard")
    plain(**batch_of(make_rows())).loss.backward()
    accumulate(model, split(1))
    norm = nn.utils.clip_grad_norm_(plain.parameters(), 0.1)
    found = {"norms": (float(clip_gradients(model.parameters(), 0.1)), float(norm))}
    found["error"] = error(gradients_of(model), gradients_of(plain))
    gate = model.blocks["0"].attention_gate.gate
    if gate.grad.to_local().numel():  # on the first rank alone
        gate.grad.to_local().fill_(float("inf"))
    before = gradients_of(model)
    found["bad norm"] = float(clip_gradients(model.parameters(), 0.1))
    found["untouched"] = all(torch.equal(grad, before[name]) for name, grad in gradients_of(model).items())
    return found


def check_messages():
    """How many messages of each kind a step of three micro-batches takes."""
    found = {}
    for name, options in {"sync": {}, "gathered": {"keep_gathered": True}}.items():
        model = plainly(make_model(), frozen="replicate")
        batches = split(2, micro_batches=3)
        accumulate(model, batches)  # shows the head
        with Messages() as messages:
            accumulate(model, batches, **options)
        found[name] = dict(messages.counts)
    return found


def check_frozen():
    """Which frozen weights want a gradient, have one, or have one kept for them between micro-batches; and how many
    numbers are reduced beyond those of what trains, with the pads that make them divisible.
    """
    found, world = {}, distributed.get_world_size()
    for frozen in FROZEN:
        model = plainly(make_model().train(), frozen=frozen)
        batches = split(2, micro_batches=3)
        with Messages() as messages:
            accumulate(model, batches, keep_gathered=True)
        trained = model.trained_parameters().values()
        padded = sum(-(-len(p) // world) * world * p[:1].numel() for p in (whole(p).detach() for p in trained))
        weights = {name: p for name, p in model.named_parameters() if not name.startswith(("blocks.", "resampler."))}
        weights = {name: p for name, p in weights.items() if not name.startswith("token_rows.")}
        found[frozen] = {
            "wanted": [name for name, p in weights.items() if p.requires_grad],
            "there": [name for name, p in weights.items() if p.grad is not None],
            "sharded": sum(hasattr(p, "device_mesh") for p in weights.values()),
            "looked at": len(list(kept_by_shards(model))),
            "kept": [name for name, kept in kept_by_shards(model) if kept],
            "beyond": messages.reduced - padded,
        }
    return found


def check_laws():
    """Whether closed gates are the bare model, and which tokens an image reaches."""
    ids, _, pixels = make_rows()[0]  # images at 1 and 4
    found = {}
    for frozen in FROZEN:
        bare, model = make_model(closed=True), plainly(make_model(closed=True), frozen=frozen).eval()
        with torch.no_grad():
            logits, words = model(ids[None], pixels=pixels).logits, bare.token_rows
            table = torch.cat([bare.lm.embedding.weight, words.input])
            bare.token_rows.detach()
            bare.lm.embedding = nn.Embedding.from_pretrained(table)  # the bare model, which knows the tag
            known = bare.attachment.detach()(ids[None])
        found[frozen, "closed"] = torch.equal(logits[..., :TAG], known)
        model = plainly(make_model(), frozen=frozen).eval()
        logits = model(ids[None], pixels=pixels).logits.detach()
        for item in range(2):
            other = pixels.clone()
            other[item] += 1
            changed = (model(ids[None], pixels=other).logits != logits).any(-1)[0]
            found[frozen, item] = changed.tolist()
    return found


def check_inference():
    """What text comes out, as of one process, with other lengths on each rank; and what is left gathered."""
    rank, found = distributed.get_rank(), {}
    ids, _, pixels = make_rows()[0] if rank == 0 else make_rows()[1]
    prompt = ids[None, : 5 + rank]
    arguments = {"pixels": pixels} if rank == 0 else {}
    words = {"max_new_tokens": 2 + 3 * rank, "eos_token_id": None}
    for frozen, options in WAYS.items():
        plain, model = make_model().eval(), plainly(make_model(), **options).eval()
        with torch.no_grad():
            close = torch.allclose(model(prompt, **arguments).logits, plain(prompt, **arguments).logits, atol=1e-5)
        texts = [one.generate(prompt, **arguments, **words) for one in (plain, model)]
        media = [one.encode_media(**arguments).media for one in (plain, model)]
        with torch.no_grad():
            nexts = [one.prefill(prompt, **arguments).logits for one in (plain, model)]
        scores = [one.score(prompt, [[3], [4, 5]], **arguments).log_probs for one in (plain, model)]
        with torch.no_grad():
            model.encode_media(**arguments)
        found[frozen] = {
            "forward": close, "generate": torch.equal(*texts), "encode_media": torch.allclose(*media, atol=1e-5),
            "prefill": torch.allclose(*nexts, atol=1e-5), "score": torch.allclose(*scores, atol=1e-5),
            "held": held_of(model),
        }  # fmt: skip
    return found


def check_mixed_precision():
    """Dtypes after a step in bfloat16, how far its gradients are from those in float32, and what frozen weights do."""
    expected, found = expected_gradients(), {}
    for frozen in FROZEN:
        model = make_model()
        prepare_precision(model)
        shard(model.train(), frozen=frozen)
        before = {name: whole(p).clone() for name, p in model.named_parameters() if not p.requires_grad}
        optimiser = torch.optim.AdamW(model.trained_parameters().values(), fused=True)
        gathered = dtypes_of(model.resampler.layers[0].feed_forward.up_proj, model.blocks["0"].attention.o_proj)
        accumulate(model, split(3))
        trained = list(model.trained_parameters().values())
        actual = gradients_of(model)
        far = sum((actual[name] - g).square().sum() for name, g in expected.items()) ** 0.5
        length = sum(g.square().sum() for g in expected.values()) ** 0.5
        clip_gradients(trained, 1.0)
        optimiser.step()
        moments = [state[name] for state in optimiser.state.values() for name in ("exp_avg", "exp_avg_sq")]
        found[frozen] = {
            "dtypes": sorted({str(t.dtype) for t in (*trained, *(p.grad for p in trained), *moments)}),
            "gathered": sorted(gathered),
            "moments": len(moments) == 2 * len(trained),
            "frozen": sorted({str(p.dtype) for p in model.parameters() if not p.requires_grad}),
            "error": float(far / length),
            "still": all(torch.equal(whole(p), before[name]) for name, p in model.named_parameters() if name in before),
        }
    return found


def dtypes_of(*layers):
    """The dtypes that weights have when their layers run, once they have run."""
    dtypes = set()
    for layer in layers:
        layer.register_forward_pre_hook(lambda module, _: dtypes.add(str(module.weight.dtype)))
    return dtypes


def check_start():
    """Models that each rank has drawn for itself, trained as those of the first rank."""
    model = make_model()
    with torch.no_grad():
        for parameter in model.trained_parameters().values():
            parameter.add_(distributed.get_rank())
    expected = make_model().trained_parameters()
    plainly(model)
    return error({name: whole(p) for name, p in model.trained_parameters().items()}, expected)


def check_order():
    """Whether a block runs before the weights of its layer are gathered, and what happens after a call that raised."""
    model, gathered, held = plainly(make_model(), frozen="shard"), [], []
    for name, block in model.blocks.items():
        weight = model.lm.layers[int(name)].q_proj
        block.register_forward_pre_hook(lambda *_, layer=weight: gathered.append(hasattr(layer.weight, "device_mesh")))
    for call in (model, model.generate):
        with _raises(ValueError):
            call(torch.tensor([[1, 77]]))  # before anything is gathered but the outermost
        breaking = model.lm.layers[3].q_proj.register_forward_pre_hook(_break)
        with _raises(FloatingPointError):
            call(torch.tensor([[1, 7]]))
        breaking.remove()
        held += held_of(model)
    gathered.clear()
    accumulate(model, split(4, micro_batches=1))
    found = error(gradients_of(model), expected_gradients())
    return {"sharded when blocks run": gathered, "held": held, "error": found}


def check_compiled():
    """Error of the gradients of a model that was checkpointed, compiled and sharded, in this order."""
    model = make_model()
    model.checkpoint_activations()
    compile_regions(model, backend="eager")
    plainly(model, frozen="shard")
    with warnings.catch_warnings():
        warnings.filterwarnings("default", message="The .grad attribute")  # the compiler looks, and hides what is said
        accumulate(model, split(5, micro_batches=1))
    return error(gradients_of(model), expected_gradients())


def check_transformers():
    """Whether a Llama inside gives the same text and the same gradients, with other lengths on each rank."""
    rank, found = distributed.get_rank(), {}
    for frozen in FROZEN:
        plain, model = make_flamingo("llama"), plainly(make_flamingo("llama"), frozen=frozen)
        batch = make_batch(EXAMPLE_ROWS[:1] if rank % 2 else EXAMPLE_ROWS[2:], rank)
        words = {"max_new_tokens": 1 + 2 * rank, "eos_token_id": None, "do_sample": False}
        texts = [one.generate(**batch.arguments(), **words) for one in (plain, model)]
        labels = make_batch(EXAMPLE_ROWS, 0)
        for one in (plain, model):
            one(**labels.arguments(), labels=labels.input_ids).loss.backward()
        found[frozen] = {"text": torch.equal(*texts), "error": error(gradients_of(model), gradients_of(plain))}
    return found


def _break(*_):
    raise FloatingPointError


@contextmanager
def _raises(kind):
    try:
        yield
    except kind:
        return
    raise AssertionError(f"no {kind.__name__}")


def run(checks):
    """All checks of that name, one after the other; a warning is an error, as in all tests."""
    warnings.simplefilter("error")
    ways = ways_of_two if distributed.get_world_size() == 2 else ways_of_four
    given = {"check_gradients": (ways,)}
    return {name: globals()[name](*given.get(name, ())) for name in checks}
