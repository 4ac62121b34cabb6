"""mnistjax: a small, functional, fast training library for image classification in JAX.

The public names are listed, with their types, in `__init__.pyi`. They load on first use, so that
`import mnistjax` (and with it every `--help`) does not wait seconds for jax.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
