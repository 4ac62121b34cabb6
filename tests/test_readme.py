import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()


EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=["a run"])
def test_the_examples_run_and_print_what_readme_says(
    example, tmp_path, monkeypatch, capsys, without_pictures, optimised
):
    assert len(example.strip().splitlines()) <= 25
    monkeypatch.chdir(tmp_path)
    assert (quick := example.replace("epochs=8", "epochs=4")) != example
    exec(compile(quick, "README.md", "exec"), {"__name__": "__main__"})
    out = capsys.readouterr().out
    assert re.search(r"^test accuracy 0\.9\d+", out, re.MULTILINE)


def test_it_is_short():
    assert len(EXAMPLES) == 1 and len(README.splitlines()) <= 150


def test_the_files_it_names_exist():
    root = Path(__file__).parent.parent
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (root / target).exists(), target
