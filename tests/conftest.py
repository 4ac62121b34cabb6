import atexit
import dataclasses
import gc
import gzip
import os
import shutil
import signal
import sys
import tempfile
import zlib
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "cuda" in os.environ["JAX_PLATFORMS"]:  # JAX_PLATFORMS=cuda,cpu make test
    os.environ.setdefault("XLA_FLAGS", "--xla_gpu_deterministic_ops=true")
    os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")  # TF32 has ten bits
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes share it
# Tests compile far more than they compute. Of the CNN's step LLVM makes a program in 9.3 s of CPU
# at level 1, in 5.1 s at level 0, in 1.2 s without fusion emitters. For those jaxlib 0.10 has a
# flag and 0.12 none, and an unknown flag ends the process.
if version("jaxlib").startswith("0.10."):
    os.environ.setdefault(
        "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    )
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
os.environ["KERAS_BACKEND"] = "jax"
os.environ["KERAS_HOME"] = tempfile.mkdtemp()  # importing keras writes a file there
# Programs compiled once for all workers, the processes they start, and the suite's next run, which
# takes 13 % less: 50 MB. What a killed process left half written goes first.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(
        Path(__file__).parent.parent / ".pytest_cache" / "programs"
    )
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import hypothesis
import jax
import numpy as np
import pytest

from mnistjax.data.dataset import Split
from mnistjax.data.digits import load_digits
from mnistjax.data.idx import FILES, read_idx

# What starts the tests in the background may ignore these, and so would all that they start.
for _number, _handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _handler)

atexit.register(shutil.rmtree, os.environ["KERAS_HOME"], ignore_errors=True)
# A hundred processes import the same modules: 0.4 s less for each, 6 s for each worker's next run.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
hypothesis.settings.register_profile(
    "repeatable", derandomize=True, deadline=None, max_examples=100
)
hypothesis.settings.load_profile("repeatable")


def pytest_configure(config):
    programs = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    ours = programs.parent.name == ".pytest_cache"
    if ours and not hasattr(config, "workerinput"):  # before the workers begin
        tidy(programs)


def pytest_collection_finish():
    """What is there now stays: looking through it again and again took a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def tidy(programs: Path, most=2**29):
    """Delete entries of JAX's cache that cannot be read; all of them if they take too much room."""
    entries = {path: path.read_bytes() for path in programs.glob("*-cache")}
    if sum(map(len, entries.values())) > most:
        shutil.rmtree(programs)
    for path, entry in entries.items():
        try:
            zlib.decompress(entry)
        except zlib.error:
            path.unlink(missing_ok=True)


# Files that take the longest go first: one begun last would leave the other worker idle. What
# clears JAX's caches goes before all that could use them, or last.
LONGEST = ["parallel", "classifier", "ops", "finetune", "scratch", "examples", "wrong_use", "kills"]
LONGEST += ["export", "serve", "general", "serve_browser", "same_run", "prefetch", "lowering"]
LONGEST += ["precision", "vgg16", "readme", "fuzz_files", "training"]
LAST = ["portions", "programs"]


def pytest_collection_modifyitems(items):
    rank = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    rank |= {f"test_{name}": len(LONGEST) + 1 for name in LAST}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONGEST)))
    if not os.environ["JAX_PLATFORMS"].startswith("cpu"):
        for item in items:
            if item.get_closest_marker("cpu"):
                item.add_marker(pytest.mark.skip(reason="how a CPU does it"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Nothing a test prepares reaches the user's cache."""
    path = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MNISTJAX_CACHE", str(path))
    return path


@contextmanager
def nothing_drawn():
    """Reports without pictures: drawing them is a third of a small run's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mnistjax.report.figures.save_png", lambda figure, path: path.touch())
        patch.setattr("mnistjax.report.figures.to_svg", lambda figure, salt: "<svg></svg>")
        yield


@pytest.fixture
def without_pictures():
    """`nothing_drawn`, but by fixtures of a whole file, which draw unless they say so."""
    with nothing_drawn():
        yield


@pytest.fixture
def optimised(monkeypatch):
    """Steps of a long training at level 1: 4 s more to compile, a third of the time for each."""
    options = {"xla_backend_optimization_level": 1}
    monkeypatch.setattr("mnistjax.training.compile.compiler_options", lambda: options)


@pytest.fixture
def mnist_dir():
    """The real MNIST, where the checkout has it beside it."""
    path = Path(__file__).parents[2] / "shared" / "data" / "mnist"
    if not path.is_dir():
        pytest.skip("real MNIST is not in ../shared/data/mnist")
    return path


@contextmanager
def few_digits_to_test(count: int):
    """The bundled digits with `count` test images of 360: what a small run spends its time on."""
    few = load_digits()
    few = dataclasses.replace(few, test=Split(few.test.images[:count], few.test.labels[:count]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mnistjax.data.load.load_digits", lambda: few)
        yield few


def few_of_mnist(mnist_dir: Path, place: Path, *, train: int, test: int) -> tuple[str, ...]:
    """Flags that read the first of the real images from `place`: evaluating 10,000 takes 15 s."""
    place.mkdir(parents=True, exist_ok=True)
    for role, name in FILES.items():
        array, _ = read_idx(mnist_dir / f"{name}.gz", ndim=3 if role.endswith("images") else 1)
        (place / name).write_bytes(idx_bytes(array[: train if "train" in role else test]))
    return "--data-dir", str(place), "--allow-unverified-data"


def idx_bytes(array: np.ndarray) -> bytes:
    """`array` of uint8 in the IDX format."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def tiny_arrays(seed=0):
    """60 training and 20 test images with balanced labels, by role."""
    random = np.random.default_rng(seed)
    arrays = {}
    for part, count in (("train", 60), ("test", 20)):
        arrays[f"{part}_images"] = random.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        arrays[f"{part}_labels"] = random.permutation(np.arange(count) % 10).astype(np.uint8)
    return arrays


@pytest.fixture
def tiny_idx_dir(tmp_path):
    """A directory with the four IDX files of `tiny_arrays`, gzipped."""
    directory = tmp_path / "idx"
    directory.mkdir()
    for role, array in tiny_arrays().items():
        (directory / f"{FILES[role]}.gz").write_bytes(gzip.compress(idx_bytes(array), mtime=0))
    return directory


@pytest.fixture(scope="session")
def keras_vgg16():
    """Keras's own VGG16 without its top, for 32x32 images; weights and biases are random."""
    import keras

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        model = keras.applications.VGG16(
            weights=None,  # type: ignore[arg-type]  a random network
            include_top=False,
            input_shape=(32, 32, 3),
        )
    random = np.random.default_rng(0)
    for layer in model.layers:
        if layer.get_weights():  # biases of zero could be mistaken for one another
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, random.standard_normal(bias.shape, np.float32)])
    return model


@pytest.fixture
def vgg16_file():
    """Blocks 1 to 3 of the published VGG16, where the checkout has them beside it."""
    directory = Path(__file__).parents[2] / "shared" / "data" / "vgg16"
    path = directory / "vgg16_blocks1-3_tf_kernels_notop.h5"
    if not path.is_file():
        pytest.skip("real VGG16 weights are not in ../shared/data/vgg16")
    return path


@pytest.fixture
def signal_at(monkeypatch):
    """`with signal_at(step):` this process gets a signal once the row of that step is written."""
    from mnistjax.runs.log import MetricsLog

    @contextmanager
    def planted(step, number=signal.SIGTERM):
        add = MetricsLog.add

        def sends(log, event, **more):
            add(log, event, **more)
            if event.step == step:
                os.kill(os.getpid(), number)

        with monkeypatch.context() as patch:
            patch.setattr(MetricsLog, "add", sends)
            yield

    return planted
