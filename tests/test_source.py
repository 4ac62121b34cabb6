"""What no line of this tree may do: run code out of a file, or fork a process that has threads."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = [
    path
    for room in ("mnistjax", "experiments", "benchmarks")
    for path in ROOT.glob(f"{room}/**/*.py")
]
FORBIDDEN = {
    "unpickles": r"\b(pickle|dill|cloudpickle|joblib|marshal|shelve)\b(?=\.|\s*$| import)",
    "evaluates text": r"(?<![\w.])(eval|exec)\(",
    "loads YAML that may hold objects": r"\byaml\.(unsafe_|full_)?load\(",
    "lets NumPy unpickle": r"allow_pickle\s*=\s*True",
    "loads a Keras model": r"\bload_model\(",
    # But for the words that tell how to have no pickle any more.
    "loads a PyTorch pickle": r"\btorch\.load\((?!'x\.pth')",
    # JAX runs threads: a fork of them can hang. `subprocess` starts anew.
    "forks": r"\bos\.fork\(|\bmultiprocessing\b(?!.*spawn)|ProcessPoolExecutor",
}


@pytest.mark.parametrize(("what", "pattern"), FORBIDDEN.items(), ids=FORBIDDEN)
def test_nothing_here(what, pattern):
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in FILES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert not found, f"{what}: {found}"


SAMPLES = ["import pickle", "eval(x)", "yaml.load(f)", "np.load(f, allow_pickle=True)"]
SAMPLES += ["keras.models.load_model(p)", "torch.load(p)", "os.fork()", "import multiprocessing"]


@pytest.mark.parametrize("line", SAMPLES)
def test_each_would_be_found(line):
    assert any(re.search(pattern, line) for pattern in FORBIDDEN.values())
