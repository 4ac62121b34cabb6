import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

import benchmarks.__main__ as program
from benchmarks import ROOT, suite
from benchmarks.harness import cells, measure, timing
from benchmarks.harness.cells import Cell, run_cell
from benchmarks.harness.environment import environment
from benchmarks.harness.job import BenchmarkConfig
from benchmarks.harness.networks import NETWORKS, by_path, filled, network
from benchmarks.harness.problems import network_problem
from benchmarks.harness.same import same_losses
from benchmarks.jobs import nets, time_to_accuracy, tpu_aot, tpu_pods, vgg16
from benchmarks.registry import JOBS
from benchmarks.tables import files
from benchmarks.tables.rows import median_of
from mnistjax import cli


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["repport"], "command repport: not one of report"),
        (["--jobs", "step,epok"], "--jobs epok: not one of step"),
        (["vgg16", "--sizes", "33"], "--sizes 33: not one of 32, 64, 224"),
        (
            ["nets", "--networks", "alexnet"],
            "--networks alexnet: not one of resnet, mobilenet, unet, convnext",
        ),
        (["epoch", "--images", "100"], "--images 100: must be a multiple of 128"),
        (["step", "--rouns", "1"], "did you mean --rounds?"),
        (["--platform", "cuda"], "--platform cuda: not one of cpu, gpu, tpu"),
        (["--rounds", "0"], "--rounds 0: must be at least 1"),
    ],
)
def test_a_typo_is_answered_in_one_line(argv, said, capsys):
    assert program.main(argv) == 2
    err = capsys.readouterr().err
    assert said in err and "Fix: " in err and err.count("\n") == 1


def test_the_environment_names_no_path_of_the_machine(monkeypatch):
    home = str(Path.home())
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", f"{home}/cache")
    monkeypatch.setenv("XLA_FLAGS", f"--xla_dump_to={home}/dump --xla_backend_optimization_level=1")
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    facts = environment(threads=2, on="cpu")
    text = json.dumps(facts)
    assert home not in text and str(ROOT) not in text
    assert facts["flags"]["XLA_FLAGS"] == "--xla_dump_to=PATH --xla_backend_optimization_level=1"
    assert facts["flags"]["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    assert facts["platform"] == "cpu" and facts["versions"]["jax"]


def test_a_device_that_is_not_there_is_answered_in_one_line(monkeypatch, capsys):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    if shutil.which("nvidia-smi"):
        pytest.skip("there may be a GPU")
    # Were it overlooked, --only would end the run before a cell is measured.
    assert program.main(["step", "--platform", "gpu", "--only", "nobody"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: --platform gpu: JAX finds no such device. Fix: ")
    assert err.count("\n") == 1


def test_a_cell_that_is_not_there_is_answered_in_one_line(capsys):
    assert program.main(["step", "--only", "Keras 3 on PyTorch"]) == 2
    err = capsys.readouterr().err
    assert "did you mean Keras 3 on" in err and err.count("\n") == 1


def test_a_missing_peer_is_a_gap_with_a_command():
    cell = Cell("a peer", "torch_cnn", venv="nobody-has-this")
    said = run_cell(cell, Path(), threads=1)
    assert said == {"missing": "not installed: make bench-peers"}


def test_committed_results_name_no_path_of_a_machine():
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        assert not re.search(r'"(/|[A-Z]:\\)', path.read_text()), path.name


@pytest.mark.parametrize("job", JOBS)
def test_every_job_can_be_asked_for_its_flags(job, capsys):
    config_class, run = suite.program(job)
    with pytest.raises(SystemExit) as exit_:
        cli.parse(config_class, ["--help"])
    assert exit_.value.code == 0 and callable(run)
    assert "--no-save" in capsys.readouterr().out


def test_the_suite_runs_the_default_jobs_and_passes_its_flags_on(monkeypatch, tmp_path, capsys):
    ran, real = {}, suite.program
    monkeypatch.setattr(suite, "ROOT", tmp_path)  # without any peer's environment
    monkeypatch.setattr(
        suite, "program", lambda job: (real(job)[0], lambda config: ran.update({job: config}))
    )
    assert program.main(["--rounds", "1", "--no-save"]) == 0
    assert set(ran) == {"step", "epoch", "vgg16", "input", "startup"}
    assert all(config.rounds == 1 and not config.save for config in ran.values())
    assert ran["vgg16"].sizes == (32, 64)
    ran.clear()
    assert program.main(["--jobs", "ops, step"]) == 0
    assert list(ran) == ["step", "ops"]
    ran.clear()
    assert program.main(["--all", "--data-dir", "mnist"]) == 0
    assert "tpu_aot is left out. make bench-tpu" in capsys.readouterr().out
    assert [*ran, "tpu_aot", "tpu_pods"] == list(JOBS) and ran["vgg16"].sizes == (32, 64, 224)
    assert ran["time_to_accuracy"].data_dir == Path("mnist")


def test_vgg16_asks_an_accelerator_for_more(monkeypatch):
    asked = {}

    def measure_in_turn(config, title, cells, *, images, dtype, **job):
        asked[title] = images, dtype, {argument for cell in cells for argument in cell.arguments}
        return {"rows": {}}

    monkeypatch.setattr(vgg16, "measure_in_turn", measure_in_turn)
    for platform in ("cpu", "gpu"):
        machine = {"platform": platform, "load_before": 0}
        monkeypatch.setattr(vgg16, "machine_facts", lambda _, machine=machine: machine)
        assert program.main(["vgg16", "--no-save", "--threads", "1"]) == 0
    assert asked["VGG16 forward, 224x224, batch 4, bfloat16, 1 threads"][:2] == (4, "bfloat16")
    large = asked["VGG16 training step, 224x224, batch 64, bfloat16, 1 threads"]
    assert large[:2] == (64, "bfloat16")
    assert all(dtype in arguments for _, dtype, arguments in asked.values())


def test_nets_measures_what_is_asked_for_and_says_what_is_not(monkeypatch):
    asked, written = {}, {}

    def measure_in_turn(config, title, cells, *, flops, same, **job):
        asked[title] = [cell.arguments[0] for cell in cells], flops
        return {"rows": {cell.name: {} for cell in cells}}

    monkeypatch.setattr(nets, "measure_in_turn", measure_in_turn)
    monkeypatch.setattr(nets, "machine_facts", lambda _: {})
    monkeypatch.setattr(nets, "keep", lambda *done: None)
    monkeypatch.setattr(nets, "finish", lambda *done: written.update(done[-1]) or 0)
    assert program.main(["nets", "--networks", "resnet", "--threads", "1"]) == 0
    training, forward = asked.values()
    assert training[0] == ["resnet"] * 5 and forward[0] == ["resnet"] * 6
    assert 2.9 < training[1] / forward[1] < 3  # no gradient of the pixels
    gaps = written["MobileNetV2, forward"]["rows"].values()
    assert len(written) == 8 and all("--networks" in gap["why"] for gap in gaps)
    asked.clear()
    assert program.main(["nets", "--only", "PyTorch torch.compile"]) == 0
    assert len(asked) == 4 and all("forward" in title for title in asked)


def test_the_problem_of_a_network_fills_it(tmp_path, monkeypatch):
    monkeypatch.setitem(NETWORKS, "resnet", NETWORKS["resnet"]._replace(batch=2))
    network_problem(tmp_path / "problem.npz", name="resnet")
    problem = np.load(tmp_path / "problem.npz")
    assert problem["images"].shape == (2, 32, 32, 3) and problem["labels"].shape == (2,)
    made = nnx.to_pure_dict(nnx.state(nnx.eval_shape(lambda: network("resnet"))))
    assert {*problem.files} == {*by_path(made), "images", "labels"}
    marked = {name: np.full_like(problem[name], 2) for name in by_path(made)}
    assert all(array is marked[name] for name, array in by_path(filled(made, marked)).items())
    assert problem["blocks/2/shortcut/kernel"].shape == (1, 1, 64, 128)


def test_each_chip_has_a_file_and_what_failed_is_a_gap(monkeypatch, tmp_path, capsys):
    sizes = {"gflop": 197.0, "gb_accessed": 0.5, "peak_memory_mib": 1.0}
    sizes |= {"collectives": 0, "kinds_of_collectives": ""}
    found = {"chips": {"1": sizes | {"largest_batch": 8}, "4": sizes}, "versions": {"jax": "1"}}
    asked = []

    def run_cell(cell, path, **_):
        asked.append(cell.arguments)
        return {"missing": "no memory"} if "bfloat16" in cell.arguments else found

    monkeypatch.setattr(tpu_aot, "run_cell", run_cell)
    monkeypatch.setattr(files, "RESULTS", tmp_path)
    config = tpu_aot.JobConfig(chips=("v6e",))
    assert tpu_aot.main(config) == 0
    assert asked[0] == ("small_cnn", "28", "128", "float32", "v6e:2x2", "32", "1,4")
    (path,) = tmp_path.iterdir()
    assert path.name == "tpu-v6e-ahead-of-time.json"
    got = json.loads(path.read_text())["tpu_aot"]
    rows = got["rows"]
    assert got["environment"]["device_kind"].startswith("v6e") and len(rows) == 2 * len(asked)
    assert rows["vgg16 224x224, batch 64, bfloat16, 1 x v6e"]["why"] == "no memory"
    assert rows["vgg16 224x224, batch 256, float32, 4 x v6e"]["status"] == "compiled-only"
    assert "largest batch 8" in capsys.readouterr().out
    assert tpu_aot.main(tpu_aot.JobConfig(chips=("v5e",), only=("small_cnn",))) == 0
    assert [*tmp_path.iterdir()] == [path]  # a part is not a result


def test_a_pod_s_rows_are_of_all_its_chips(monkeypatch, tmp_path):
    sizes = {"gflop": 197.0, "gb_accessed": 0.5, "peak_memory_mib": 1.0, "collective_mib": 100}
    sizes |= {"collectives": 2, "kinds_of_collectives": "all-reduce"}
    asked = []

    def run_cell(cell, path, **_):
        asked.append(cell.arguments)
        return {"chips": {cell.arguments[-1]: sizes}, "versions": {"jax": "1"}}

    monkeypatch.setattr(tpu_aot, "run_cell", run_cell)
    monkeypatch.setattr(files, "RESULTS", tmp_path)
    assert tpu_pods.main(tpu_pods.JobConfig()) == 0
    assert asked[1] == ("small_cnn", "28", "128", "float32", "v5e:16x16", "16", "256")
    rows = json.loads((tmp_path / "tpu-v5e-ahead-of-time.json").read_text())["tpu_pods"]["rows"]
    assert rows["vgg16 32x32, batch 4096, float32, 16 x v5e"]["sum_ms"] == 0.983


def test_a_peer_that_computes_something_else_gets_no_time(monkeypatch):
    def run_cell(cell, *_, **__):
        losses = [1.0, 0.5] if cell.name == "mnistjax" else [1.1, 0.5]
        facts = {"first_seconds": 0, "peak_mib": 1, "versions": {}}
        return facts | {"losses": losses, "windows": [1.0]}

    monkeypatch.setattr(cells, "run_cell", run_cell)
    monkeypatch.setattr(cells, "pin", lambda threads: None)
    monkeypatch.setattr(measure, "run_cell", lambda *_, **__: {"gemm_gflops": 1.0})
    got = measure.measure_in_turn(
        BenchmarkConfig(rounds=1, save=False),
        "a title",
        [Cell("mnistjax", ""), Cell("a peer", "")],
        problem=lambda path: None,
        images=8,
        flops=1e9,
        same=same_losses,
    )
    ours, theirs = got["rows"].values()
    assert ours["images_per_second"] == 8 and ours["percent_of_gemm_peak"] == 800
    assert theirs["why"] == "refused, it computes something else: losses differ by 9.1e-02, 0.0e+00"


@pytest.mark.parametrize("job", ["time_to_accuracy", "quick"])
def test_without_mnist_it_is_a_gap(job, capsys):
    assert program.main([job]) == 0
    assert "Fix: pass --data-dir DIR" in capsys.readouterr().out


def test_until_clocks_training_and_not_evaluation(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(clock)))
    done = []
    scores = iter([0.5, 0.985, 0.97, 0.991])

    def accuracy():
        next(clock)  # would show as a second second
        return next(scores)

    said = timing.until(
        [0.98, 0.99, 0.995], lambda *steps: done.append(steps), accuracy, steps=7, every=2
    )
    assert said["reached"] == [2.0, 4.0, None]
    assert done == [(0, 2), (2, 4), (4, 6), (6, 7)]


def test_a_seed_that_missed_the_target_counts_as_infinite():
    def said(seconds):
        return {"reached": [seconds], "compile_seconds": 1.0, "versions": {}}

    most = {"a": [said(3.0), said(5.0), said(None)]}
    row = time_to_accuracy.summarise_target(most, 0)["a"]
    assert (row["seconds"], row["with_compiling"], row["seeds_that_reached_it"]) == (5.0, 6.0, 2)
    few = {"a": [said(3.0), said(None), said(None)]}
    row = time_to_accuracy.summarise_target(few, 0)["a"]
    assert "seconds" not in row and row["seeds_that_reached_it"] == 1
    assert median_of(row) is None


def test_the_clock_of_peers_needs_the_standard_library_only():
    # Their environments have neither this library nor JAX.
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import benchmarks.harness.timing"
    subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True)


def test_what_peers_import_of_this_checkout_is_there():
    # Pyright does not look: there, a module may be of another environment.
    peers = {path: path.read_text() for path in (ROOT / "benchmarks" / "peers").glob("*.py")}
    ours = r"^ *(?:from|import) ((?:benchmarks|mnistjax)[\w.]*)"
    names = {name for text in peers.values() for name in re.findall(ours, text, re.MULTILINE)}
    assert "benchmarks.harness.timing" in names and "mnistjax" in names
    assert not [name for name in names if importlib.util.find_spec(name) is None]
