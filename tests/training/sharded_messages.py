"""What ranks send, and what torch keeps for the gradients of sharded weights."""

from collections import Counter

from torch.utils._python_dispatch import TorchDispatchMode


class Messages(TorchDispatchMode):
    """Counts what is sent, by kind, and the numbers of which gradients are reduced."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()
        self.reduced = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "c10d":
            kind = function.__name__.partition(".")[0].strip("_")
            self.counts[kind] += 1
            self.reduced += args[1].numel() if kind == "reduce_scatter_base" else 0
        return function(*args, **(kwargs or {}))


def kept_by_shards(model):
    """Of each frozen weight that is sharded, whether FSDP keeps a gradient beside the parameter."""
    for module in model.modules():
        group = module._get_fsdp_state()._fsdp_param_group if hasattr(module, "_get_fsdp_state") else None
        for one in [] if group is None else group.fsdp_params:
            if not one.sharded_param.requires_grad:
                gathered = getattr(one, "_unsharded_param", None)
                kept = one.unsharded_accumulated_grad is not None or getattr(gathered, "grad", None) is not None
                yield one._param_fqn, kept
