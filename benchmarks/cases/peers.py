"""Other implementations' blocks with our weights in them, and their gradients under our names.

open_flamingo's and flamingo-pytorch's packages pin a torch of 2023 and are installed without their dependencies; their
files of blocks are loaded by path, for importing open_flamingo whole would want a vision library that blocks do not
need. IDEFICS' and Mllama's blocks come with transformers.
"""

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.cases.sizes import Sizes

PACKAGES = {
    "open_flamingo": ("open_flamingo", "einops_exts"),
    "flamingo_pytorch": ("flamingo_pytorch", "einops_exts"),
    "idefics": ("transformers",),
    "mllama": ("transformers",),
}
# From a peer's name of a parameter to ours; `{kv}` stands for two of ours that the peer keeps in one.
RENAMED = (
    (r"^(layers\.\d+)\.0\.|^blocks\.(\d+)\.0\.", lambda m: f"{m[1] or f'layers.{m[2]}'}."),
    (r"^(layers\.\d+)\.1\.|^blocks\.(\d+)\.1\.", lambda m: f"{m[1] or f'layers.{m[2]}'}.feed_forward."),
    (r"^ff\.", "feed_forward."),
    (r"feed_forward\.(0|ln)\.", "feed_forward.norm."),
    (r"feed_forward\.(1|fc)\.", "feed_forward.up_proj."),
    (r"feed_forward\.(3|c_proj)\.", "feed_forward.down_proj."),
    (r"^(attn_gate|alpha_cross_attn|cross_attn_attn_gate)$", "attention_gate.gate"),
    (r"^(ff_gate|alpha_dense|cross_attn_mlp_gate)$", "feed_forward_gate.gate"),
    (r"^(attn|cross_attn)\.", "attention."),
    (r"^input_layernorm\.", "attention.norm."),
    (r"^post_attention_layernorm\.", "feed_forward.norm."),
    (r"^mlp\.", "feed_forward."),
    (r"norm_media|context_layer_norm", "features_norm"),
    (r"norm_latents|latents_layer_norm", "latents_norm"),
    (r"^(norm|layer_norm)\.(?=weight$|bias$)", "final_norm."),
    (r"to_q\.", "q_proj."),
    (r"to_out\.|output_proj\.", "o_proj."),
    (r"to_kv\.", "{kv}_proj."),
)
WITHOUT_TWIN = ("media_pos_emb",)  # positions of media, which the paper does not have


def missing(peer: str) -> str | None:
    """Why a peer cannot run here, or `None`."""
    absent = [package for package in PACKAGES[peer] if importlib.util.find_spec(package) is None]
    return f"{' and '.join(absent)} not installed" if absent else None


def load_open_flamingo(file: str = "helpers", *, folder: str = "src") -> ModuleType:
    """A file of open_flamingo, without running the package's own `__init__`."""
    spec = importlib.util.find_spec("open_flamingo")
    assert spec is not None and spec.origin is not None
    alias = f"_open_flamingo_{folder}"
    if alias not in sys.modules:
        package = ModuleType(alias)
        package.__path__ = [str(Path(spec.origin).parent / folder)]
        sys.modules[alias] = package
    return importlib.import_module(f"{alias}.{file}")


def load_open_flamingo_loop() -> ModuleType:
    """Its file with the training loop; it imports wandb, but uses what it is given instead, so an empty one will do."""
    absent = importlib.util.find_spec("wandb") is None
    if absent:
        sys.modules["wandb"] = ModuleType("wandb")
    try:
        return load_open_flamingo("train_utils", folder="train")
    finally:
        if absent:
            del sys.modules["wandb"]


def load_flamingo_pytorch() -> ModuleType:
    """flamingo-pytorch's file of blocks, without its model that wants more packages."""
    spec = importlib.util.find_spec("flamingo_pytorch")
    assert spec is not None and spec.origin is not None
    alias = "_flamingo_pytorch"
    if alias not in sys.modules:
        path = Path(spec.origin).parent / "flamingo_pytorch.py"
        file = importlib.util.spec_from_file_location(alias, path)
        assert file is not None and file.loader is not None
        module = importlib.util.module_from_spec(file)
        file.loader.exec_module(module)
        sys.modules[alias] = module
    return sys.modules[alias]


def our_names(name: str) -> list[str]:
    """Our parameters that a peer's parameter holds."""
    if name in WITHOUT_TWIN:
        return []
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return [name.replace("{kv}", part) for part in "kv"] if "{kv}" in name else [name]


@torch.no_grad()
def with_our_weights(peer: nn.Module, ours: nn.Module) -> nn.Module:
    """Fill a peer's block with the weights of ours, on its device and in its dtype.

    Args:
        peer: Their block; a part of it in an `nn.ModuleDict` under the name that it has in the block.
        ours: Our block, or its part likewise.
    """
    state = ours.state_dict()
    some = next(iter(state.values()))
    peer.to(some.device, some.dtype)
    filled = set()
    for name, parameter in peer.named_parameters():
        names = our_names(name)
        if names:
            parameter.copy_(torch.cat([state[one] for one in names]).view_as(parameter))
        else:
            parameter.zero_().requires_grad_(False)
        filled |= set(names)
    if filled != state.keys():
        raise ValueError(f"the peer has no place for {sorted(state.keys() - filled)}")
    return peer


def under_our_names(results: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A peer's output and gradients, keys and values apart; ours stay as they are."""
    renamed: dict[str, Tensor] = {}
    for name, value in results.items():
        names = our_names(name)
        renamed.update(zip(names, value.chunk(len(names)), strict=True))
    return renamed


@torch.no_grad()
def draw_weights(module: nn.Module) -> nn.Module:
    """Draw all weights from a fixed seed, large enough that a wrong mask shows, with the gates open."""
    noise = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        drawn = torch.randn(parameter.shape, generator=noise)
        if parameter.ndim > 1:
            parameter.copy_(drawn * parameter.shape[-1] ** -0.5)
        else:
            parameter.add_(0.4 + 0.1 * drawn if parameter.numel() == 1 else 0.1 * drawn)
    return module


def idefics_config(*, dim: int, vision_dim: int, num_heads: int, hidden_dim: int) -> Any:
    """A configuration of IDEFICS with our geometry."""
    config = importlib.import_module("transformers").IdeficsConfig(
        hidden_size=dim, intermediate_size=hidden_dim, num_attention_heads=num_heads, rms_norm_eps=1e-6,
        vision_config={"embed_dim": vision_dim}, qk_layer_norms=False,
        perceiver_config={"qk_layer_norms_perceiver": False}, dropout=0.0,
    )  # fmt: skip
    config._attn_implementation = "sdpa"  # noqa: SLF001 -- what `from_pretrained(attn_implementation=...)` sets
    return config


def mllama_config(*, dim: int, num_heads: int, hidden_dim: int) -> Any:
    """A configuration of Mllama's text model with our geometry."""
    configuration = importlib.import_module("transformers.models.mllama.configuration_mllama")
    config = configuration.MllamaTextConfig(
        hidden_size=dim, intermediate_size=hidden_dim, num_attention_heads=num_heads, num_key_value_heads=num_heads,
        rms_norm_eps=1e-6, dropout=0.0,
    )  # fmt: skip
    config._attn_implementation = "sdpa"  # noqa: SLF001 -- as above
    return config


def additive_mask(mask: Tensor, latents: int, dtype: torch.dtype) -> Tensor:
    """What IDEFICS and Mllama make of a mask once per forward pass: a large negative number where nothing is seen."""
    mask = mask.repeat_interleave(latents, dim=-1)[:, None]
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, torch.finfo(dtype).min)


def idefics_layer(sizes: Sizes, *, hidden_dim: int) -> nn.Module:
    """IDEFICS' gated cross-attention layer."""
    modeling = importlib.import_module("transformers.models.idefics.modeling_idefics")
    config = idefics_config(dim=sizes.dim, vision_dim=sizes.vision_dim, num_heads=sizes.heads, hidden_dim=hidden_dim)
    layer: nn.Module = modeling.IdeficsGatedCrossAttentionLayer(config, layer_idx=0)
    return layer


def mllama_layer(sizes: Sizes, *, hidden_dim: int) -> nn.Module:
    """Mllama's cross-attention decoder layer."""
    modeling = importlib.import_module("transformers.models.mllama.modeling_mllama")
    config = mllama_config(dim=sizes.dim, num_heads=sizes.heads, hidden_dim=hidden_dim)
    layer: nn.Module = modeling.MllamaCrossAttentionDecoderLayer(config, layer_idx=0)
    return layer


def idefics_resampler(*, dim: int, depth: int, num_heads: int, head_dim: int, num_latents: int) -> nn.Module:
    """IDEFICS' Perceiver Resampler."""
    perceiver = importlib.import_module("transformers.models.idefics.perceiver")
    config = idefics_config(dim=dim, vision_dim=dim, num_heads=num_heads, hidden_dim=dim)
    resampler: nn.Module = perceiver.IdeficsPerceiverResampler(config, dim, depth, num_heads, head_dim, num_latents)
    return resampler


def refusal(peer: str, sizes: Sizes) -> str | None:
    """Why a peer's options do not allow a geometry, or `None`."""
    if peer in {"idefics", "mllama"} and sizes.inner != sizes.dim:
        return f"its heads together are as wide as the text: {sizes.dim}, not {sizes.inner}"
    if peer in {"flamingo_pytorch", "mllama"} and sizes.vision_dim != sizes.dim:
        return f"its media are as wide as the text: {sizes.dim}, not {sizes.vision_dim}"
    return None


Loader = Callable[[], ModuleType]
BLOCK_FILES: dict[str, Loader] = {"open_flamingo": load_open_flamingo, "flamingo_pytorch": load_flamingo_pytorch}


def flamingo_part(peer: str, sizes: Sizes, *, part: str = "GatedCrossAttentionBlock", **options: Any) -> nn.Module:
    """A block, or another part, of open_flamingo or of flamingo-pytorch; the latter knows one width for all."""
    widths = {"dim": sizes.dim} | ({"dim_visual": sizes.vision_dim} if peer == "open_flamingo" else {})
    build: Any = getattr(BLOCK_FILES[peer](), part)
    module: nn.Module = build(**widths, heads=sizes.heads, dim_head=sizes.head_dim, **options)
    return module
