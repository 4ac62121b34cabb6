"""What accelerators can do at most, by their vendors: the denominator of MFU."""

# Dense bfloat16 TFLOP/s of one device as JAX names it, without sparsity. NVIDIA's data sheets of
# H100, H200 and A100; Google Cloud's pages of TPU v4, v5e, v5p and v6e. The first that fits.
BFLOAT16_TFLOPS = {
    "H100 PCIe": 756,
    "H100": 989,
    "H200": 989,
    "A100": 312,
    "TPU v6 lite": 918,  # v6e
    "TPU v5 lite": 197,  # v5e
    "TPU v5": 459,  # v5p
    "TPU v4": 275,
}


def bfloat16_peak(device_kind: str) -> float | None:
    """The peak in TFLOP/s, `None` where the table does not know the device: there is no MFU then.

    >>> bfloat16_peak("NVIDIA H200"), bfloat16_peak("TPU v5 lite"), bfloat16_peak("cpu")
    (989, 197, None)
    """
    return next((peak for name, peak in BFLOAT16_TFLOPS.items() if name in device_kind), None)
