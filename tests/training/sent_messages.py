"""What ranks send each other, counted."""

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
