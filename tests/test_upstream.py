"""Every block of docs/upstream.md runs, and the form that mends gives what the usual one does."""

import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "upstream.md").read_text()
FIRST, *BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
TITLES = re.findall(r"^## (.*)$", PAGE, re.M)


def test_each_section_has_its_block():
    assert len(TITLES) == len(BLOCKS) >= 5


@pytest.mark.parametrize("block", BLOCKS, ids=TITLES)
def test_what_mends_gives_the_same(block):
    there: dict[str, Any] = {}
    with jax.numpy_rank_promotion("allow"):
        exec(FIRST.replace("batch = 32", "batch = 2"), there)
        exec(block, there)
        usual, mended = (jax.jit(there[name])(*there["arguments"]) for name in ("usual", "mended"))
    assert usual.shape == mended.shape and np.abs(usual).max() > 1
    np.testing.assert_allclose(mended, usual, atol=1e-4 * np.abs(usual).max())
