"""Fine-tuning: what is named trains and nothing else, goes on bit for bit, and is in the saved file."""

import copy
from functools import partial

import peft
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from flamingo_blocks.data import FlamingoExample, collate
from flamingo_blocks.data.loading import DataSource, Mixture
from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.models import Flamingo, build_tiny_flamingo
from flamingo_blocks.training import (
    Checkpointer,
    Objective,
    TrainConfig,
    flamingo_loss,
    param_groups,
    prepare_precision,
    train,
    warmup_hold_decay,
)
from flamingo_blocks.training.finetune import PARTS, train_only
from flamingo_blocks.vision import CallableTower
from tests.flamingos import EXAMPLE_ROWS, NEW_TAG, SIDE, VISION_DIM, make_batch, make_flamingo
from tests.language_models import draw_weights, make_language_model

HEADS = {"blocks": "blocks", "resampler": "resampler", "new_tokens": "token_rows", "lm": "lm", "tower": "vision"}
ROLES = {
    "blocks": {"blocks.matrices", "blocks.other", "gates"},
    "resampler": {"resampler"},
    "new_tokens": {"new_tokens"},
    "lm": {"rest.matrices", "rest.other"},
    "tower": {"rest.matrices", "rest.other"},
    "lora": {"lora"},
}
VARIANTS = {
    "paper": ("blocks", "resampler", "new_tokens"),
    "fine-tuned paper": ("blocks", "resampler", "tower"),
    "new tokens": ("new_tokens",),
    "lora": ("blocks", "resampler", "new_tokens", "lora"),
    "language model": ("blocks", "resampler", "new_tokens", "lm"),
    "everything": PARTS,
}
variants = pytest.mark.parametrize("parts", VARIANTS.values(), ids=list(VARIANTS))


def with_adapters(lm, **options):
    """LoRA of drawn weights, so that it is felt from the start."""
    config = peft.LoraConfig(r=2, lora_dropout=0.2, target_modules=["q_proj", "v_proj"], **options)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        lm = peft.inject_adapter_in_model(config, lm)
        for name, weight in lm.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(weight, std=0.1)
    return lm


def make_tower():
    """With statistics that move in training, and with dropout."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = nn.Sequential(nn.Conv2d(3, VISION_DIM, 4, stride=4), nn.BatchNorm2d(VISION_DIM), nn.Dropout(0.1))
    return CallableTower(net, image_size=SIDE)


def make_model(*parts):
    """A Flamingo with adapters in its language model, of which these parts train."""
    lm = with_adapters(make_language_model("llama"))
    model = make_flamingo("llama", lm=lm, vision=make_tower()).float().train()
    train_only(model, *parts)
    return model


def part_of(name):
    return "lora" if "lora_" in name else {head: part for part, head in HEADS.items()}[name.partition(".")[0]]


MODEL = make_model("blocks")


@given(first=st.sets(st.sampled_from(PARTS), min_size=1), chosen=st.lists(st.sampled_from(PARTS), min_size=1))
def test_what_is_named_trains_and_nothing_else(first, chosen):
    """Whatever trained before, in any order: each parameter belongs to one part, and modes follow."""
    train_only(MODEL.train(), *first)
    trained = train_only(MODEL, *chosen)
    assert trained.keys() == {name for name, _ in MODEL.named_parameters() if part_of(name) in chosen}
    assert {part_of(name) for name in trained} == set(chosen)
    check_modes(chosen)
    check_modes(chosen, MODEL.eval())
    check_modes(chosen, MODEL.train())


def check_modes(chosen, model=MODEL):
    """What is frozen is in eval mode whatever the model is in; adapters, which may be in use, follow it."""
    for part, head in HEADS.items():
        for name, module in getattr(model, head).named_modules():
            adapter = head == "lm" and ("lora_" in name or hasattr(module, "base_layer"))
            assert module.training == (model.training and (part in chosen or adapter)), (part, name)


@variants
def test_each_parameter_has_its_role(parts):
    """In the groups of the optimiser: those of the parts that train, each of them there."""
    groups = param_groups(make_model(*parts), lr=0.1)
    assert {group["name"] for group in groups} == set().union(*(ROLES[part] for part in parts))


def make_data():
    def row(number, *, key):
        noise = torch.Generator().manual_seed(number)
        ids = [1, NEW_TAG, *torch.randint(3, 20, (4,), generator=noise).tolist(), NEW_TAG + 1]
        pixels = torch.randn(1 + number % 2, 3, SIDE, SIDE, generator=noise)
        return FlamingoExample(ids, tags=[1], pixels=[pixels], labels=ids)

    source = DataSource(
        name="pairs", documents=range(8), make=row, collate=partial(collate, pad_id=0), batch_size=2
    )  # fmt: skip
    return Mixture([source], seed=0)


def run(model, steps, folder=None):
    """Some steps on pairs, and what the model is then."""
    data = make_data()
    config = TrainConfig(
        model=model, objectives=[Objective(name="pairs", batches=data.batches("pairs"), loss=flamingo_loss)],
        steps=steps, lr=1e-2, schedule=warmup_hold_decay(warmup=1), seed=3, data=data,
        checkpointer=None if folder is None else Checkpointer(folder, asynchronous=False),
    )  # fmt: skip
    result = train(config)
    return result, {name: value.clone() for name, value in model.state_dict().items()}


@variants
def test_a_variant_trains_and_goes_on_bit_for_bit(parts, tmp_path):
    """Weights, moments and running statistics; what does not train has not moved."""
    before = make_model(*parts).state_dict()
    _, expected = run(make_model(*parts), 3)
    run(make_model(*parts), 2, tmp_path)
    result, found = run(make_model(*parts), 3, tmp_path)
    assert result.first_step == 2
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    moved = {name for name in found if not torch.equal(found[name], before[name])}
    assert {part_of(name) for name in moved} == set(parts)
    assert {name for name in found if "running" in name} & moved == (
        {"vision.encoder.1.running_mean", "vision.encoder.1.running_var"} if "tower" in parts else set()
    )


def logits(model):
    return model.eval()(**make_batch(EXAMPLE_ROWS, 0, dtype=torch.float32).arguments()).logits


@pytest.mark.parametrize("frozen", ["reference", "include"])
@variants
def test_a_variant_is_saved_and_loaded(parts, frozen, tmp_path):
    """Into the parts that it was made of: the same logits bit for bit, and the same parts train on."""
    model = make_model(*parts)
    run(model, 2)
    model.save_pretrained(tmp_path, frozen=frozen)
    loaded = Flamingo.from_pretrained(tmp_path, lm=with_adapters(make_language_model("llama")), vision=make_tower())
    assert torch.equal(logits(loaded), logits(model))
    assert loaded.trained_parameters().keys() == model.trained_parameters().keys()
    assert not any(module.training for module in loaded.modules())
    modes = [{name for name, module in one.train().named_modules() if module.training} for one in (loaded, model)]
    assert modes[0] == modes[1]


def test_what_was_not_trained_has_to_be_the_same(tmp_path):
    """Another language model beside a trained tower is refused; a trained part may come with any weights."""
    model = make_model("blocks", "tower")
    run(model, 1)
    model.save_pretrained(tmp_path)
    other_tower = CallableTower(draw_weights(make_tower().encoder, 5), image_size=SIDE)
    lm = with_adapters(make_language_model("llama"))
    loaded = Flamingo.from_pretrained(tmp_path, lm=copy.deepcopy(lm), vision=other_tower)
    assert torch.equal(logits(loaded), logits(model))
    draw_weights(lm, 5)
    with pytest.raises(CheckpointError, match="lm is not the one this model was trained with"):
        Flamingo.from_pretrained(tmp_path, lm=lm, vision=make_tower())


def test_a_part_that_trained_as_a_whole_is_not_asked_for(tmp_path):
    """All of its weights are in the file, so it is built from that."""
    model = build_tiny_flamingo()
    train_only(model, "blocks", "lm")
    model.save_pretrained(tmp_path)
    loaded = Flamingo.from_pretrained(tmp_path, vision=model.vision)
    ids = torch.tensor([[1, 5, 6]])
    assert torch.equal(loaded(ids).logits, model.eval()(ids).logits)


@pytest.mark.parametrize("frozen", ["reference", "include"])
def test_a_language_model_without_the_adapters_is_refused(frozen, tmp_path):
    """And the error says what is missing."""
    make_model("blocks", "lora").save_pretrained(tmp_path, frozen=frozen)
    with pytest.raises(CheckpointError, match="it had adapters: put such into the language model by PEFT"):
        Flamingo.from_pretrained(tmp_path, lm=make_language_model("llama"), vision=make_tower())


def test_adapters_are_saved_by_peft_beside_the_model(tmp_path):
    """In PEFT's own form, which other programs read, and which gives the language model that loading wants."""
    model = make_flamingo("llama").float()
    adapted = peft.get_peft_model(model.lm, peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    assert all(part_of(name) in ("blocks", "lora") for name in train_only(model, "blocks", "lora"))
    run(model, 2)
    model.save_pretrained(tmp_path)
    adapted.save_pretrained(tmp_path / "adapter")
    assert not [key for key in peft.utils.load_peft_weights(tmp_path / "adapter") if "blocks" in key]
    lm = peft.PeftModel.from_pretrained(make_language_model("llama"), tmp_path / "adapter").base_model.model
    vision = make_flamingo("llama").float().vision
    assert torch.equal(logits(Flamingo.from_pretrained(tmp_path, lm=lm, vision=vision)), logits(model))


def test_adapters_that_are_not_in_use_do_not_train():
    """They would never get a gradient, and a sharded run would wait for one."""
    model = make_flamingo("llama").float()
    adapted = peft.get_peft_model(model.lm, peft.LoraConfig(r=2, target_modules=["k_proj"]))
    adapted.add_adapter("second", peft.LoraConfig(r=2, target_modules=["q_proj"]))
    adapted.set_adapter("second")
    names = train_only(model, "lora")
    assert names and all(".second." in name for name in names)
    run(model, 1)
    assert all(weight.grad is not None for weight in names.values())


def test_narrow_and_wide_weights_follow_the_parts():
    """What is chosen before `prepare_precision` is float32; adapters beside weights in bfloat16 too, and they train."""
    model = make_model("blocks", "tower", "lora")
    prepare_precision(model)
    for name, weight in model.named_parameters():
        trained = part_of(name) in ("blocks", "tower", "lora")
        assert weight.dtype == (torch.float32 if trained else torch.bfloat16), name
    result, _ = run(model, 2)
    assert result.skipped == 0


def test_the_default_is_what_the_paper_trains():
    """As far as it is there, and frozen weights keep no gradient of before."""
    model = make_model(*PARTS)
    run(model, 1)
    assert {part_of(name) for name in train_only(model)} == set(VARIANTS["paper"])
    assert {part_of(name) for name, p in model.named_parameters() if p.grad is not None} == set(VARIANTS["paper"])
    bare = make_flamingo("llama", resampler=None, num_new_tokens=0, media_token_id=0, end_token_id=None)
    assert {part_of(name) for name in train_only(bare)} == {"blocks"}


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ("gates", "parts has 'gates', wanted of 'blocks', 'resampler', 'new_tokens', 'lm', 'tower', 'lora'"),
        ("lora", r"no adapters: put some in before, by peft\.inject_adapter_in_model\(config, model\.lm\)"),
        ("tower", "none with weights: make it with vision="),
        ("resampler", "it has none, nor a projection"),
        ("new_tokens", "no new tokens: make it with num_new_tokens="),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_a_part_that_is_not_there_is_refused(part, says):
    """Before anything changes, with what would bring it."""
    options = {"num_new_tokens": 0, "media_token_id": 0, "end_token_id": None}
    model = make_flamingo("llama", vision=None, resampler=None, **options)
    before = model.trained_parameters().keys()
    with pytest.raises(ValueError, match=says):
        train_only(model, "lm", part)
    assert model.trained_parameters().keys() == before


def test_quantised_weights_do_not_train():
    """Adapters beside them may."""
    model = make_model("lora")
    model.lm.codes = nn.Parameter(torch.zeros(2, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(ValueError, match=r"parts has 'lm', but 'lm\.codes' is quantised \(Parameter, torch\.uint8\)"):
        train_only(model, "lm")
    assert train_only(model, "lora")


@pytest.mark.usefixtures("without_shape_checks")
def test_other_models_are_refused():
    """One that is no Flamingo, and one whose shards were made for what trained before."""
    with pytest.raises(TypeError, match="model is a Linear, wanted a Flamingo"):
        train_only(nn.Linear(1, 1))
    model = build_tiny_flamingo()
    model.blocks["0"].set_requires_gradient_sync = None
    with pytest.raises(ValueError, match="sharded already, .* call train_only before shard"):
        train_only(model)
