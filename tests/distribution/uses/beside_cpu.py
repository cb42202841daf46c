"""Let torchvision be imported beside a CPU build of torch, before anything else imports it."""

import torch

# torchvision of the package index is built for CUDA: beside a CPU build of torch its own library does not load, and its
# python files stop at two operators that nothing here calls. They are declared, with no code behind them.
try:
    import torchvision
except RuntimeError:
    operators = torch.library.Library("torchvision", "DEF")
    operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision  # noqa: F401
