"""`pytest docs` runs every block of the pages: one namespace and one empty directory a page."""

import os
import shutil
import tempfile
from doctest import ELLIPSIS

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from sybil import Sybil
from sybil.evaluators.doctest import DocTestEvaluator
from sybil.parsers.abstract.doctest import DocTestStringParser
from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser

collect_ignore_glob = ["*.py"]  # Sphinx's and figures', which draw when they are imported
# As a reader has JAX, not as strictly as the tests do: tests/conftest.py.
USUAL = {"jax_numpy_rank_promotion": "allow", "jax_numpy_dtype_promotion": "standard"}


def setup(namespace) -> None:
    import jax

    before = {name: getattr(jax.config, name) for name in USUAL}
    place, home = tempfile.mkdtemp(), os.getcwd()
    namespace["_undo"] = (home, place, before, os.environ.get("MNISTJAX_CACHE"))
    namespace["__name__"] = "__main__"
    for name, value in USUAL.items():
        jax.config.update(name, value)
    os.environ["MNISTJAX_CACHE"] = os.path.join(place, ".cache")
    os.chdir(place)


def teardown(namespace) -> None:
    import jax

    home, place, before, cache = namespace["_undo"]
    os.chdir(home)
    shutil.rmtree(place)
    for name, value in before.items():
        jax.config.update(name, value)
    os.environ.pop("MNISTJAX_CACHE") if cache is None else os.environ.update(MNISTJAX_CACHE=cache)


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
