"""Every family of decoders that the library is tested with: how a tiny one with random weights is made."""

from dataclasses import dataclass
from typing import Any

from torch import nn

VOCAB, DIM = 50, 32
END = 1  # the end token of the models of transformers

WIDE = dict(hidden_size=DIM, intermediate_size=48, num_attention_heads=4, num_hidden_layers=2)
GROUPED = WIDE | dict(num_key_value_heads=2)
STATES = dict(mamba_d_state=4, mamba_d_conv=4, mamba_n_heads=4, mamba_d_head=16, mamba_n_groups=1, mamba_chunk_size=4)
EXPERTS = dict(num_experts_per_tok=2)
# Gemma: pairs of one sliding and one full layer, whose window is longer than the texts of the tests
SLIDING = dict(layer_types=["sliding_attention", "full_attention", "sliding_attention"], num_hidden_layers=3)


@dataclass(frozen=True)
class Family:
    """A decoder of transformers.

    `make` is the name of its class, `config` that of its configuration, made with `options`; `layers` its list of
    decoder layers.
    """

    title: str
    make: str
    config: str
    layers: str
    options: dict[str, Any]
    num_layers: int = 2

    def build(self, **changes: Any) -> nn.Module:
        """A model with the weights that the library draws."""
        import transformers

        ids = dict(vocab_size=VOCAB, pad_token_id=0, bos_token_id=2, eos_token_id=END)
        config = getattr(transformers, self.config)(**(ids | self.options | changes))
        return getattr(transformers, self.make)(config)


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
        | dict(max_position_embeddings=64, sliding_window=64, query_pre_attn_scalar=8, head_dim=8), 3,
    ),
    "phi": Family("Phi", "PhiForCausalLM", "PhiConfig", "model.layers", WIDE),
    "gpt2": Family(
        "GPT-2", "GPT2LMHeadModel", "GPT2Config", "transformer.h",
        dict(n_embd=DIM, n_layer=3, n_head=4, n_positions=64), 3,
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
    ),
    "falcon": Family(
        "Falcon", "FalconForCausalLM", "FalconConfig", "transformer.h",
        dict(hidden_size=DIM, num_hidden_layers=2, num_attention_heads=4),
    ),
    "falcon_alibi": Family(
        "Falcon (ALiBi)", "FalconForCausalLM", "FalconConfig", "transformer.h",
        dict(hidden_size=DIM, num_hidden_layers=2, num_attention_heads=4, alibi=True, new_decoder_architecture=False,
             parallel_attn=False),
    ),
    "bloom": Family(
        "BLOOM (ALiBi)", "BloomForCausalLM", "BloomConfig", "transformer.h",
        dict(hidden_size=DIM, n_layer=2, n_head=4),
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
    ),
    "mamba2": Family(
        "Mamba 2", "Mamba2ForCausalLM", "Mamba2Config", "backbone.layers",
        dict(hidden_size=DIM, num_hidden_layers=2, state_size=4, num_heads=4, head_dim=16, n_groups=1, chunk_size=4),
    ),
    "jamba": Family(
        "Jamba (Mamba, attention, experts)", "JambaForCausalLM", "JambaConfig", "model.layers",
        GROUPED | EXPERTS
        | dict(num_experts=2, num_hidden_layers=4, attn_layer_period=2, attn_layer_offset=1, mamba_d_state=4,
               use_mamba_kernels=False), 4,
    ),
    "bamba": Family(
        "Bamba (Mamba 2, attention)", "BambaForCausalLM", "BambaConfig", "model.layers",
        GROUPED | STATES | dict(attn_layer_indices=[1]),
    ),
    "falcon_h1": Family(
        "Falcon H1 (Mamba 2 beside attention)", "FalconH1ForCausalLM", "FalconH1Config", "model.layers",
        GROUPED | STATES | dict(mamba_d_ssm=64, head_dim=8),
    ),
    "qwen3_next": Family(
        "Qwen 3 Next (delta rule, attention, experts)", "Qwen3NextForCausalLM", "Qwen3NextConfig", "model.layers",
        GROUPED | EXPERTS
        | dict(num_experts=4, moe_intermediate_size=16, shared_expert_intermediate_size=16, head_dim=8,
               linear_key_head_dim=8, linear_value_head_dim=8, linear_num_key_heads=2, linear_num_value_heads=4,
               layer_types=["linear_attention", "full_attention"]),
    ),
}  # fmt: skip
