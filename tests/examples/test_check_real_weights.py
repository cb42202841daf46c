"""The script that checks released weights, on tiny checkpoints of the same layouts."""

import importlib.util
from pathlib import Path

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, GPTNeoXConfig, GPTNeoXForCausalLM, OPTConfig, OPTForCausalLM

from tests.interop.transformers_peers import draw, tiny_idefics, tiny_mllama, tokenizer

SCRIPT = Path(__file__).parents[2] / "examples" / "check_real_weights.py"
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("check_real_weights", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def spoil(script, monkeypatch) -> None:
    """Close a gate of what we load."""
    load = script.load_foreign

    def load_wrong(*args, **options):
        flamingo = load(*args, **options)
        next(iter(flamingo.blocks.values())).attention_gate.gate.data.zero_()
        return flamingo

    monkeypatch.setattr(script, "load_foreign", load_wrong)


@pytest.mark.parametrize("family", ["idefics", "mllama"])
def test_transformers_models(family, script, tmp_path, capsys, monkeypatch):
    """A saved model of transformers and ours compute the same; with one of our gates closed the script says no."""
    peer = tiny_idefics() if family == "idefics" else tiny_mllama()
    peer.save_pretrained(tmp_path)
    command = [family, "--checkpoint", str(tmp_path)]
    assert script.main(command) == 0
    assert "at 19 of 19 tokens\nTHE SAME\n" in capsys.readouterr().out
    spoil(script, monkeypatch)
    assert script.main(command) == 1
    assert "\nNOT THE SAME\n" in capsys.readouterr().out


def save_parts(folder: Path, lm) -> list[str]:
    """Language model, its tokenizer and a CLIP, as folders."""
    lm.save_pretrained(folder / "lm")
    tokenizer().save_pretrained(folder / "lm")
    clip = CLIPVisionConfig(
        hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4
    )
    draw(CLIPVisionModel(clip), 3).save_pretrained(folder / "clip")
    return ["--language-model", str(folder / "lm"), "--tower", str(folder / "clip")]


@pytest.mark.peers
@pytest.mark.parametrize(("name", "rows"), [("opt", 30), ("gpt_neox", 40)])
def test_open_flamingo(name, rows, script, tmp_path, capsys, monkeypatch):
    """What open_flamingo's training saves, around a model with a tied head, and around one with an untied head whose
    table has more rows than its tokenizer has words.
    """
    pytest.importorskip("einops_exts", reason="peers are installed by `nox -s tests`")
    with torch.random.fork_rng(devices=[]):
        if name == "opt":
            lm = OPTForCausalLM(OPTConfig(vocab_size=rows, word_embed_proj_dim=16, ffn_dim=24, **SIZES))
        else:
            lm = GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=rows, intermediate_size=24, **SIZES))
        options = [*save_parts(tmp_path, draw(lm)), "--every", "1"]
        clip = CLIPVisionModel.from_pretrained(tmp_path / "clip")
        peer = script.build_open_flamingo(lm, clip, every=1, end=30, tag=31, rows=32)
    draw(peer.perceiver, 1)
    draw(peer.lang_encoder.gated_cross_attn_layers, 2)
    state = {
        f"module.{name}": tensor
        for name, tensor in peer.state_dict().items()
        if not name.startswith(("vision_encoder.", "lang_encoder.old_", "lang_encoder.gated_"))
        and ("perceiver" in name or "gated_cross_attn_layer" in name or "embed" in name)
    }
    if name == "gpt_neox":  # as its transformers of 2023 saved it
        layer = "module.lang_encoder.gpt_neox.layers.0.decoder_layer.attention"
        state |= {
            f"{layer}.bias": torch.ones(1, 1, 64, 64).tril().bool(),
            f"{layer}.rotary_emb.inv_freq": torch.ones(2),
        }
        state["module.lang_encoder.embed_out.weight"] = peer.lang_encoder.get_output_embeddings().weight.detach()
    torch.save({"epoch": 3, "model_state_dict": state}, tmp_path / "checkpoint.pt")
    command = ["open_flamingo", "--checkpoint", str(tmp_path / "checkpoint.pt"), *options]
    assert script.main(command) == 0
    assert "at 19 of 19 tokens\nTHE SAME\n" in capsys.readouterr().out
    spoil(script, monkeypatch)
    assert script.main(command) == 1


@pytest.mark.peers
def test_a_checkpoint_that_does_not_fit_open_flamingo(script, tmp_path):
    """What open_flamingo itself would pass over in silence is said: tensors that are missing, and tensors too many."""
    pytest.importorskip("einops_exts", reason="peers are installed by `nox -s tests`")
    model = torch.nn.ModuleDict({"perceiver": torch.nn.Linear(2, 2)})
    torch.save({"perceiver.weight": torch.ones(2, 2), "lang_encoder.other": torch.ones(1)}, tmp_path / "checkpoint.pt")
    with pytest.raises(SystemExit, match=r"lacks \['perceiver.bias'\], and has \['lang_encoder.other'\] more"):
        script.fill_open_flamingo(model, str(tmp_path / "checkpoint.pt"))


def test_open_flamingo_needs_its_parts(script, capsys):
    """Without the folders of language model and tower the script says what it needs."""
    with pytest.raises(SystemExit):
        script.main(["open_flamingo", "--checkpoint", "checkpoint.pt"])
    assert "needs --language-model and --tower" in capsys.readouterr().err
