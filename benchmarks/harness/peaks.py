"""What accelerators can do at most, by their vendors: the denominators of MFU and of rooflines."""

from typing import NamedTuple


class Device(NamedTuple):
    """One device, as its vendor describes it: dense bfloat16, without sparsity.

    `None`: of a device that nothing is compiled ahead of time for, nothing asks.
    """

    bfloat16_tflops: float
    memory_gib: int | None = None
    gb_per_second: float | None = None


# By a part of the name that JAX has for them, the first that fits. NVIDIA's data sheets of H100,
# H200 and A100; Google Cloud's pages of TPU v4, v5e, v5p and v6e.
DEVICES = {
    "H100 PCIe": Device(756),
    "H100": Device(989),
    "H200": Device(989),
    "A100": Device(312),
    "TPU v6 lite": Device(918, memory_gib=32, gb_per_second=1640),  # v6e
    "TPU v5 lite": Device(197, memory_gib=16, gb_per_second=819),  # v5e
    "TPU v5": Device(459, memory_gib=95, gb_per_second=2765),  # v5p
    "TPU v4": Device(275),
}


def bfloat16_peak(device_kind: str) -> float | None:
    """The peak in TFLOP/s, `None` where the table does not know the device: there is no MFU then.

    >>> bfloat16_peak("NVIDIA H200"), bfloat16_peak("TPU v5 lite"), bfloat16_peak("cpu")
    (989, 197, None)
    """
    known = (device for name, device in DEVICES.items() if name in device_kind)
    return next((device.bfloat16_tflops for device in known), None)
