"""Weights as the paper stores them: what trains in float32, what is frozen in half of that."""

import torch
from torch import nn

from flamingo_blocks.training.ranks.check_shardable import is_quantised


def prepare_precision(model: nn.Module, dtype: torch.dtype = torch.bfloat16) -> None:
    """Store frozen weights in a narrow dtype and trained ones in float32.

    Call it before `shard` and before the optimiser is made. Frozen parts of a `Flamingo` are in eval mode afterwards
    and stay there whatever `model.train()` says; adapters of PEFT in them train, their dropout included.

    Args:
        model: The model; it is changed in place, so that tied weights stay tied.
        dtype: Of frozen weights, and of the buffers that are saved with them. Quantised ones stay as they are, and so
            do buffers that are computed, such as the frequencies of rotary positions.

    Raises:
        ValueError: If `dtype` is no floating one.

    Example:
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> flamingo = build_tiny_flamingo()
        >>> prepare_precision(flamingo)
        >>> flamingo.lm.head.weight.dtype, flamingo.blocks["0"].attention.q_proj.weight.dtype
        (torch.bfloat16, torch.float32)

    Source:
        Flamingo (arXiv 2204.14198), appendix B.1.2: trained weights and the optimiser's state in float32, activations
        and frozen weights in bfloat16.
    """
    if not dtype.is_floating_point:
        raise ValueError(f"dtype is {dtype}, wanted a floating one, such as torch.bfloat16")
    for parameter in model.parameters():
        if not is_quantised(parameter):
            parameter.data = parameter.data.to(torch.float32 if parameter.requires_grad else dtype)
    saved = model.state_dict().keys()
    for path, module in model.named_modules():
        if not any(parameter.requires_grad for parameter in module.parameters()):
            for name, buffer in module.named_buffers(prefix=path, recurse=False):
                if name in saved and buffer.is_floating_point():
                    setattr(module, name.rpartition(".")[2], buffer.to(dtype))
    model.train(model.training)
