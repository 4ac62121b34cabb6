"""The kinds of device that `platform` names, and what JAX calls them."""

# JAX's own "gpu" means CUDA and ROCm both, and fails for want of the other one.
JAX_NAMES = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}
PLATFORMS = tuple(JAX_NAMES)
