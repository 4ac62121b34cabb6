"""`pytest docs` runs every block of the pages: one namespace and one empty directory a page."""

import atexit
import builtins
import os
import shutil
import tempfile
from contextlib import ExitStack, chdir
from doctest import ELLIPSIS
from importlib.metadata import version
from unittest.mock import patch

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# As tests/conftest.py, and for its reason: the pages compile more than they compute.
if version("jaxlib").startswith("0.10."):
    os.environ.setdefault(
        "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    )

from sybil import Sybil
from sybil.evaluators.doctest import DocTestEvaluator
from sybil.parsers.abstract.doctest import DocTestStringParser
from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser

CACHE = tempfile.mkdtemp()  # of all pages: several train the same CNN, which compiles once
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)
collect_ignore_glob = ["*.py"]  # Sphinx's and figures', which draw when they are imported
# As a reader has JAX, not as strictly as the tests do: tests/conftest.py.
USUAL = {"jax_numpy_rank_promotion": "allow", "jax_numpy_dtype_promotion": "standard"}


def setup(namespace) -> None:
    import jax

    with ExitStack() as stack:
        place = tempfile.mkdtemp()
        stack.callback(shutil.rmtree, place)
        stack.enter_context(chdir(place))
        stack.enter_context(patch.dict(os.environ, {"MNISTJAX_CACHE": CACHE}))
        for name, value in USUAL.items():
            stack.callback(jax.config.update, name, getattr(jax.config, name))
            jax.config.update(name, value)
        # Pictures in reports are not looked at here, and a third of a small run's time.
        figures = "mnistjax.report.figures"
        stack.enter_context(patch(f"{figures}.save_png", lambda figure, path: path.touch()))
        stack.enter_context(patch(f"{figures}.to_svg", lambda figure, salt: "<svg></svg>"))
        namespace |= {"__name__": "__main__", "_undo": stack.pop_all()}


def teardown(namespace) -> None:
    namespace["_undo"].close()
    if hasattr(builtins, "_"):  # what >>> printed last; tyro wants all builtins hashable
        delattr(builtins, "_")


class Sessions:
    """```pycon blocks: what is typed at `>>>` gives what stands below it."""

    def __call__(self, document):
        parse = DocTestStringParser(DocTestEvaluator(ELLIPSIS))
        for block in CodeBlockParser("pycon", evaluator=lambda example: None)(document):
            for line in parse(block.parsed, document.path):
                line.adjust(block, block.parsed)
                yield line


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), Sessions()],
    patterns=["*.md", "**/*.md"],
    setup=setup,
    teardown=teardown,
).pytest()
