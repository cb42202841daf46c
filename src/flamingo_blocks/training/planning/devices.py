"""What accelerators can do, as their makers print it: memory and the speed of matrix products in bfloat16."""

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class DeviceFacts:
    """What a plan has to know of a device.

    Args:
        name: Stands in the table.
        memory_bytes: Of one device. About a gigabyte of it is taken by the driver and the libraries.
        flops_per_s: Peak of matrix products in bfloat16 with sums in float32, without sparsity.
        utilisation: Share of that peak that a run reaches. 0.4 is what well-tuned runs of wide models reach; measure
            a short run of your own and put its share here.

    Raises:
        ValueError: If a number is not positive, or `utilisation` is above 1.

    Example:
        >>> from dataclasses import replace
        >>> replace(DEVICES["h100"], utilisation=0.3).utilisation
        0.3
    """

    name: str
    memory_bytes: float
    flops_per_s: float
    utilisation: float = 0.4

    def __post_init__(self) -> None:
        if not (self.memory_bytes > 0 and self.flops_per_s > 0 and 0 < self.utilisation <= 1):
            raise ValueError(
                f"device {self.name!r} has memory_bytes {self.memory_bytes}, flops_per_s {self.flops_per_s} and "
                f"utilisation {self.utilisation}; wanted the first two above 0, and the last in 0..1 and above 0"
            )


# Peaks are those of "BFLOAT16 Tensor Core" in NVIDIA's data sheets of H200, H100 (SXM) and A100, halved where the sheet
# prints them with sparsity; that of the RTX 4090 is in NVIDIA's paper on the Ada architecture (bfloat16, sums in
# float32). Memory is the size that the sheets print.
DEVICES = MappingProxyType(
    {
        "h200": DeviceFacts(name="H200", memory_bytes=141e9, flops_per_s=989e12),
        "h100": DeviceFacts(name="H100 80 GB", memory_bytes=80e9, flops_per_s=989e12),
        "a100-80gb": DeviceFacts(name="A100 80 GB", memory_bytes=80e9, flops_per_s=312e12),
        "a100-40gb": DeviceFacts(name="A100 40 GB", memory_bytes=40e9, flops_per_s=312e12),
        "rtx-4090": DeviceFacts(name="RTX 4090", memory_bytes=24e9, flops_per_s=165e12),
    }
)
