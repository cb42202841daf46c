"""Every family of decoders that the library is tested with: how a tiny one with random weights is made."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from torch import nn

VOCAB, DIM = 50, 32
END = 1  # the end token of the models of transformers

WIDE = dict(hidden_size=DIM, intermediate_size=48, num_attention_heads=4, num_hidden_layers=2)
GROUPED = WIDE | dict(num_key_value_heads=2)
STATES = dict(mamba_d_state=4, mamba_d_conv=4, mamba_n_heads=4, mamba_d_head=16, mamba_n_groups=1, mamba_chunk_size=4)
EXPERTS = dict(num_experts_per_tok=2)
# a window longer than the texts of the tests
SLIDING = dict(layer_types=["sliding_attention", "full_attention", "sliding_attention"], num_hidden_layers=3)


# What `check_language_model` finds that a family cannot do
STATES_ONLY_GROW = ("pads between turns", "packed documents", "cached prompts", "prompt look-up")
TOO_OLD_FOR_LEFT_PADS = ("left pads",)


@dataclass(frozen=True)
class Family:
    """A decoder of transformers.

    `make` is the name of its class, `config` that of its configuration, made with `options`; `layers` its list of
    decoder layers; `cannot` names what it cannot do, `cannot_at_floor` what more in the oldest transformers.
    """

    title: str
    make: str
    config: str
    layers: str
    options: dict[str, Any]
    num_layers: int = 2
    cannot: tuple[str, ...] = ()
    cannot_at_floor: tuple[str, ...] = ()

    def can(self, check: str) -> bool:
        """Whether it can, in the transformers that is installed."""
        return check not in self.cannot + (self.cannot_at_floor if at_floor() else ())

    def build(self, **changes: Any) -> nn.Module:
        """A model with the weights that the library draws."""
        import transformers

        ids = dict(vocab_size=VOCAB, pad_token_id=0, bos_token_id=2, eos_token_id=END)
        config = getattr(transformers, self.config)(**(ids | self.options | changes))
        return getattr(transformers, self.make)(config)


def at_floor() -> bool:
    """Whether the oldest transformers that is supported is installed."""
    import transformers

    return transformers.__version__.startswith("5.0.")


FAMILIES: dict[str, Family] = {
    "llama": Family(
        "Llama", "LlamaForCausalLM", "LlamaConfig", "model.layers",
        GROUPED | dict(max_position_embeddings=64, tie_word_embeddings=False),
    ),
    "mistral": Family(
        "Mistral", "MistralForCausalLM", "MistralConfig", "model.layers", GROUPED | dict(sliding_window=64, head_dim=8)
    ),
    "qwen3": Family("Qwen 3", "Qwen3ForCausalLM", "Qwen3Config", "model.layers", GROUPED | dict(head_dim=8)),
    "gemma3": Family(
        "Gemma 3", "Gemma3ForCausalLM", "Gemma3TextConfig", "model.layers",
        GROUPED | SLIDING
        | dict(max_position_embeddings=64, sliding_window=64, query_pre_attn_scalar=8, head_dim=8), num_layers=3,
    ),
    "phi": Family("Phi", "PhiForCausalLM", "PhiConfig", "model.layers", WIDE),
    "gpt2": Family(
        "GPT-2", "GPT2LMHeadModel", "GPT2Config", "transformer.h",
        dict(n_embd=DIM, n_layer=3, n_head=4, n_positions=64), num_layers=3,
    ),
    "gpt_neox": Family("GPT-NeoX", "GPTNeoXForCausalLM", "GPTNeoXConfig", "gpt_neox.layers", WIDE),
    "gptj": Family(
        "GPT-J", "GPTJForCausalLM", "GPTJConfig", "transformer.h",
        dict(n_embd=DIM, n_layer=2, n_head=4, n_positions=64, rotary_dim=4),
    ),
    "opt": Family(
        "OPT", "OPTForCausalLM", "OPTConfig", "model.decoder.layers",
        dict(hidden_size=DIM, word_embed_proj_dim=DIM, ffn_dim=48, max_position_embeddings=64, num_hidden_layers=2,
             num_attention_heads=4),
    ),
    "mpt": Family(
        "MPT (ALiBi)", "MptForCausalLM", "MptConfig", "transformer.blocks",
        dict(d_model=DIM, n_heads=4, n_layers=2, max_seq_len=64),
        cannot=("pads between turns",), cannot_at_floor=("packed documents",),
    ),
    "falcon": Family(
        "Falcon", "FalconForCausalLM", "FalconConfig", "transformer.h",
        dict(hidden_size=DIM, num_hidden_layers=2, num_attention_heads=4),
    ),
    "falcon_alibi": Family(
        "Falcon (ALiBi)", "FalconForCausalLM", "FalconConfig", "transformer.h",
        dict(hidden_size=DIM, num_hidden_layers=2, num_attention_heads=4, alibi=True, new_decoder_architecture=False,
             parallel_attn=False),
        cannot=("packed documents", "static cache"),
    ),
    "bloom": Family(
        "BLOOM (ALiBi)", "BloomForCausalLM", "BloomConfig", "transformer.h",
        dict(hidden_size=DIM, n_layer=2, n_head=4),
        cannot=("packed documents",),
    ),
    "olmo2": Family("OLMo 2", "Olmo2ForCausalLM", "Olmo2Config", "model.layers", GROUPED),
    "mixtral": Family(
        "Mixtral (experts)", "MixtralForCausalLM", "MixtralConfig", "model.layers",
        GROUPED | EXPERTS | dict(num_local_experts=4),
    ),
    "qwen3_moe": Family(
        "Qwen 3 (experts)", "Qwen3MoeForCausalLM", "Qwen3MoeConfig", "model.layers",
        GROUPED | EXPERTS | dict(num_experts=4, moe_intermediate_size=16, head_dim=8),
    ),
    "mamba": Family(
        "Mamba", "MambaForCausalLM", "MambaConfig", "backbone.layers",
        dict(hidden_size=DIM, num_hidden_layers=2, state_size=4),
        cannot=STATES_ONLY_GROW,
    ),
    "mamba2": Family(
        "Mamba 2", "Mamba2ForCausalLM", "Mamba2Config", "backbone.layers",
        dict(hidden_size=DIM, num_hidden_layers=2, state_size=4, num_heads=4, head_dim=16, n_groups=1, chunk_size=4),
        cannot=STATES_ONLY_GROW, cannot_at_floor=TOO_OLD_FOR_LEFT_PADS,
    ),
    "jamba": Family(
        "Jamba (Mamba, attention, experts)", "JambaForCausalLM", "JambaConfig", "model.layers",
        GROUPED | EXPERTS
        | dict(num_experts=2, num_hidden_layers=4, attn_layer_period=2, attn_layer_offset=1, mamba_d_state=4,
               use_mamba_kernels=False), num_layers=4,
        cannot=STATES_ONLY_GROW,
    ),
    "bamba": Family(
        "Bamba (Mamba 2, attention)", "BambaForCausalLM", "BambaConfig", "model.layers",
        GROUPED | STATES | dict(attn_layer_indices=[1]),
        cannot=STATES_ONLY_GROW, cannot_at_floor=TOO_OLD_FOR_LEFT_PADS,
    ),
    "falcon_h1": Family(
        "Falcon H1 (Mamba 2 beside attention)", "FalconH1ForCausalLM", "FalconH1Config", "model.layers",
        GROUPED | STATES | dict(mamba_d_ssm=64, head_dim=8),
        cannot=STATES_ONLY_GROW, cannot_at_floor=TOO_OLD_FOR_LEFT_PADS,
    ),
    "qwen3_next": Family(
        "Qwen 3 Next (delta rule, attention, experts)", "Qwen3NextForCausalLM", "Qwen3NextConfig", "model.layers",
        GROUPED | EXPERTS
        | dict(num_experts=4, moe_intermediate_size=16, shared_expert_intermediate_size=16, head_dim=8,
               linear_key_head_dim=8, linear_value_head_dim=8, linear_num_key_heads=2, linear_num_value_heads=4,
               layer_types=["linear_attention", "full_attention"]),
        cannot=STATES_ONLY_GROW, cannot_at_floor=TOO_OLD_FOR_LEFT_PADS,
    ),
}  # fmt: skip


def parametrised(names: Iterable[str], *, in_every_run: Collection[str]) -> pytest.MarkDecorator:
    """Cases of a test by the name of the family; those that are not in every run are left to the long sessions."""
    marks = {name: () if name in in_every_run else pytest.mark.full for name in names}
    return pytest.mark.parametrize("name", [pytest.param(name, marks=marks[name]) for name in names])


SHOWN = ("left pads", "pads between turns", "packed documents", "cached prompts", "static cache", "prompt look-up")


def table() -> list[str]:
    """The table of the documentation, line by line."""

    def cell(family: Family, check: str) -> str:
        if check in family.cannot:
            return "no"
        return "not in 5.0" if check in family.cannot_at_floor else "yes"

    rows = [(family.title, *(cell(family, check) for check in SHOWN)) for family in FAMILIES.values()]
    lines = [("family", *SHOWN), *rows]
    drawn = [f"| {' | '.join(line)} |" for line in lines]
    return [drawn[0], "|---" * len(lines[0]) + "|", *drawn[1:]]
