import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.config import RunConfig
from experiments.scratch import ScratchConfig
from mnistjax import cli
from mnistjax.errors import DataError

ROOT = Path(__file__).parent.parent

# Command line, exit code, what the one line must say.
REFUSED = [
    ("--epohs 3", 2, "did you mean --epochs?"),
    ("--epochs x", 2, "--epochs"),
    ("--epochs", 2, "--epochs"),
    ("--epochs 0", 2, "--epochs 0: must be at least 1"),
    ("--batch-size -1", 2, "--batch-size -1"),
    ("--batch-size 1.5", 2, "--batch-size"),
    ("--train-size 0", 2, "--train-size 0"),
    ("--keep 1", 2, "pass --keep 2"),
    ("--early-stopping 0", 2, "--early-stopping 0"),
    ("--learning-rate nan", 2, "positive number"),
    ("--learning-rate inf", 2, "positive number"),
    ("--learning-rate 0", 2, "positive number"),
    ("--learning-rate fast", 2, "--learning-rate"),
    ("--validation 1", 2, "between 0 and 1"),
    ("--validation -0.1", 2, "between 0 and 1"),
    ("--seed -1", 2, "0..4294967295"),
    ("--seed 4294967296", 2, "0..4294967295"),
    ("--seed 1e3", 2, "--seed"),
    ("--validation nan", 2, "between 0 and 1"),
    ("--learning-rate 1e400", 2, "positive number"),
    ("--learning-rate -1", 2, "positive number"),
    ("--epochs -1", 2, "--epochs -1: must be at least 1"),
    ("--batch-size 0", 2, "--batch-size 0"),
    ("--batch-size nan", 2, "--batch-size"),
    ("--batchsize 8", 2, "did you mean --batch-size?"),
    ("--output {long}", 2, "more than 255 bytes"),
    ("--output a/{long}/b", 2, "more than 255 bytes"),
    ("--data-dir {long}", 2, "more than 255 bytes"),
    ("--output a\nb", 2, r"'a\nb': holds a control character"),
    ("--output a\x00b", 2, r"'a\x00b': holds a control character"),
    ("--data-dir a\x1b[2Jb", 2, "holds a control character"),
    ("--output -x", 2, "--output"),
    ("--dataset mnits", 2, "did you mean mnist?"),
    ("--dataset fashion", 2, "did you mean fashion_mnist?"),
    ("--dataset folder", 2, "needs --data-dir"),
    ("--dataset digits --data-dir .", 2, "drop --data-dir"),
    ("--dtype bf16", 2, "did you mean bfloat16?"),
    ("--platform gpuu", 2, "did you mean gpu?"),
    ("--image-size 9", 2, "at least 10"),
    ("surplus", 2, "surplus"),
    ("--output {file}/x", 5, "is a file"),
    ("--output {full}", 5, "not empty"),
    ("--output {empty} --resume", 5, "no run to resume"),
    ("--resume", 5, "no earlier run"),
]


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    return {name: tmp_path / name for name in ("file", "full", "empty")} | {"long": "ab" * 128}


def files(directory):
    return sorted(str(path) for path in directory.rglob("*"))


@pytest.mark.parametrize(("argv", "code", "says"), REFUSED, ids=[row[0] for row in REFUSED])
def test_refused_in_one_line_and_nothing_left_behind(argv, code, says, places, tmp_path, capsys):
    before = files(tmp_path)

    def main(config: ScratchConfig) -> int:
        config.run_directory()
        raise AssertionError("was not refused")

    assert cli.run(ScratchConfig, main, argv.format(**places).split(" ")) == code
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert says in err
    assert "Fix: " in err
    assert out == ""
    assert files(tmp_path) == before


def test_bugs_end_in_one_line_with_exit_code_1(capsys):
    def main(_: RunConfig) -> int:
        raise KeyError("a\nb")

    assert cli.run(RunConfig, main, []) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: unexpected KeyError") and err.count("\n") == 1


def test_debug_shows_the_traceback():
    def main(_: RunConfig) -> int:
        raise DataError("x", "y", fix="z")

    with pytest.raises(DataError):
        cli.run(RunConfig, main, ["--debug"])


FULL = [
    MemoryError(),
    RuntimeError("RESOURCE_EXHAUSTED: no"),
    ValueError("Out of memory allocating 4398046511104 bytes."),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
]


@pytest.mark.parametrize("error", FULL, ids=str)
def test_memory_has_an_exit_code(error, capsys):
    def main(_: RunConfig) -> int:
        raise error

    assert cli.run(RunConfig, main, []) == 7
    assert "--batch-size" in capsys.readouterr().err


FILLS_THE_MEMORY = """
import resource, sys
import jax, jax.numpy as jnp
from mnistjax import cli

def main(config):
    add = jax.jit(lambda x: x + 1)
    add(jnp.ones(4)).block_until_ready()
    pages = int(open("/proc/self/statm").read().split()[0])
    limit = pages * resource.getpagesize() + 2**28
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    add(jnp.zeros(2**28)).block_until_ready()
    return 0

sys.exit(cli.run(cli.Config, main, []))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_a_full_memory_is_told_as_that():
    """The system's own refusal, for a gigabyte where a quarter of one is left."""
    command = [sys.executable, "-c", FILLS_THE_MEMORY]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (7, "")
    assert done.stderr == "error: memory: none left. Fix: pass a smaller --batch-size\n"


def test_a_disk_that_says_no_where_nobody_expects_it_is_a_storage_error(tmp_path, capsys):
    def main(_: RunConfig) -> int:
        (tmp_path / "nowhere" / "x").write_text("")
        return 0

    assert cli.run(RunConfig, main, []) == 5
    err = capsys.readouterr().err
    assert f"{tmp_path / 'nowhere' / 'x'}: No such file" in err and "Fix: check" in err


def test_what_has_no_deterministic_form_is_refused_by_the_flags_name(capsys):
    def main(_: RunConfig) -> int:
        raise RuntimeError("UNIMPLEMENTED: no deterministic implementation of select-and-scatter")

    assert cli.run(RunConfig, main, ["--deterministic"]) == 2
    assert "error: --deterministic: " in capsys.readouterr().err


def test_deterministic_asks_xla_before_the_device_is_chosen(monkeypatch):
    from experiments import common

    before = "--xla_backend_optimization_level=1"
    monkeypatch.setenv("XLA_FLAGS", before)
    common.load_data(ScratchConfig(dataset="digits", deterministic=True), image_size=28)
    assert os.environ["XLA_FLAGS"] == f"{before} --xla_gpu_deterministic_ops=true"


def test_ctrl_c_before_training(capsys):
    def main(_: RunConfig) -> int:
        raise KeyboardInterrupt

    assert cli.run(RunConfig, main, []) == 130
    assert "Fix:" in capsys.readouterr().err


def python(code):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_help_and_refusals_do_not_import_jax():
    for argv in ("--help", "--epochs 0", "--dataset mnits"):
        code = (
            "import sys; from mnistjax import cli; from experiments.scratch import *\n"
            f"try: cli.run(ScratchConfig, main, {argv.split()})\n"
            "except SystemExit: pass\n"
            "print('jax' in sys.modules)"
        )
        assert python(code).splitlines()[-1] == "False"


def test_import_brings_no_heavy_library():
    heavy = ["tensorflow_datasets", "tensorflow", "matplotlib", "sklearn"]
    code = (
        "import sys, mnistjax as mj; [getattr(mj, name) for name in mj.__all__]\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    assert python(code).strip() == "[]"


def test_operations_are_there_without_an_import_of_their_own():
    assert python("import mnistjax as mj; print(mj.ops.speed_up.__name__)").strip() == "speed_up"


def test_help_names_every_flag():
    help_ = subprocess.run(
        [sys.executable, "-m", "experiments.scratch", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "100"},
    ).stdout
    assert "python -m experiments.scratch" in help_
    for name, field in ScratchConfig.__dataclass_fields__.items():
        no = "no-" if field.default is True else ""
        assert f"--{no}{name.replace('_', '-')}" in help_


def test_what_a_killed_start_leaves_does_not_make_a_directory_used(tmp_path):
    for name in (".lock", ".probe", "config.json.part"):
        (tmp_path / name).touch()
    with RunConfig(output=tmp_path).run_directory() as directory:
        assert directory == tmp_path
