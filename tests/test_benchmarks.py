import doctest
import importlib
import json
import re
import shutil
from copy import deepcopy
from pathlib import Path

import pytest

import benchmarks.__main__ as program
from benchmarks import suite, time_to_accuracy, timing
from benchmarks.cells import Cell, run_cell
from benchmarks.environment import ROOT, environment
from benchmarks.jobs import JOBS
from benchmarks.rows import STATUSES, measure
from mnistjax import cli

FACTS = {
    "platform": "cpu",
    "device_kind": "cpu",
    "cpu": "A CPU",
    "isa": ["avx2"],
    "threads": 2,
    "versions": {"jax": "1.0"},
    "commit": "abc",
    "date": "2026-01-01",
    "load_before": 0.1,
}


def measured(value, *, unit="images_per_second", spread=0.02, n=9, **more):
    return {
        "status": "measured",
        unit: value,
        "p10": value * (1 - spread),
        "p90": value * (1 + spread),
        "n": n,
        "gflops": value / 100,
        **more,
    }


RESULTS = {
    "step": {
        "environment": FACTS,
        "peaks": {"gemm_gflops": 100.0},
        "rows": {
            "mnistjax": measured(9000.0, versions={"jax": "1.0"}),
            "PyTorch contiguous": measured(3000.0, ours_is=3.0, versions={"torch": "2.0"}),
            "PyTorch channels_last": measured(2000.0, ours_is=4.5),
            "Keras | JAX": {"status": "not run", "why": "not installed: make bench-peers"},
        },
    },
    "vgg16": {
        "environment": FACTS,
        "32x32": {"peaks": {"gemm_gflops": 100.0}, "rows": {"mnistjax": measured(500.0)}},
        "64x64": {"peaks": {}, "rows": {"mnistjax": measured(90.0), "slow": measured(1.0)}},
    },
    "startup": {"environment": FACTS, "rows": {"mnistjax": measured(0.5, unit="seconds")}},
    "tpu_aot": {
        "environment": FACTS,
        "rows": {"v5e": {"status": "compiled-only", "temp_mib": 12.5, "why": "no TPU here"}},
    },
    "ops": {
        "environment": FACTS,
        "rows": {
            "conv": {
                "rows": {
                    "default": {"forward": {"ms": 2.0}, "with gradients": {"ms": 9.0}},
                    "ours": {"forward": {"ms": 1.0}, "with gradients": {"ms": 4.0}},
                }
            },
            "pool": {"missing": "failed: no memory"},
        },
    },
}


@pytest.fixture
def results(tmp_path):
    directory = tmp_path / "results"
    directory.mkdir()
    (directory / "cpu-a.json").write_text(json.dumps(RESULTS))
    return directory


def render(results, output):
    assert program.main(["report", "--results", str(results), "--output", str(output)]) == 0
    return {path.name: path.read_bytes() for path in output.rglob("*") if path.is_file()}


def lines(text, start):
    return [line for line in text.splitlines() if line.startswith(start)]


def test_report_shows_every_status_of_every_job(results, tmp_path):
    files = render(results, tmp_path / "docs")
    text = files["benchmarks.md"].decode()
    assert lines(text, "| `step` | tr") == [
        "| `step` | training step of the small CNN | measured | not run | not run |"
    ]
    assert lines(text, "| `tpu_aot` | training")[0].endswith(
        "| not run | not run | compiled-only |"
    )
    for status in STATUSES:
        assert status in text
    (missing,) = lines(text, "| Keras \\| JAX")
    assert missing.endswith("| not run: not installed: make bench-peers |")
    assert "| conv | 2.00 / 9.00 | **1.00** / **4.00** |" in text
    assert "| pool | not run: failed: no memory |  |" in text
    assert "jax 1.0, torch 2.0" in text
    for name in re.findall(r"\(images/(.+?)\)", text):
        assert name in files


def test_report_twice_gives_the_same_bytes(results, tmp_path):
    first = render(results, tmp_path / "first")
    assert first == render(results, tmp_path / "second")
    assert {"headline.svg", "cpu-a-step.svg", "cpu-a-vgg16.svg"} <= first.keys()
    headline = first["headline.svg"].decode()
    assert "A CPU, 2 threads" in headline and "PyTorch 2.0" in headline
    assert "PyTorch contiguous" in headline and "channels_last" not in headline


def test_report_without_results_says_what_to_do(tmp_path, capsys):
    assert program.main(["report", "--results", str(tmp_path)]) == 3
    assert "Fix: run python -m benchmarks first" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("job", "row", "factor", "n", "code"),
    [
        ("step", "mnistjax", 0.90, 9, 1),  # slower by more than the spread
        ("step", "mnistjax", 0.97, 9, 0),  # within 5 %
        ("step", "mnistjax", 1.50, 9, 0),  # faster
        ("step", "mnistjax", 0.80, 3, 0),  # three windows say little
        ("step", "mnistjax", 0.70, 3, 1),
        ("startup", "mnistjax", 1.20, 9, 1),  # of seconds more is worse
        ("startup", "mnistjax", 0.80, 9, 0),
    ],
)
def test_compare_flags_what_is_slower_beyond_noise(
    tmp_path, capsys, job, row, factor, n, code, results
):
    after = deepcopy(RESULTS)
    changed = after[job]["rows"][row]
    for key in {"images_per_second", "seconds", "p10", "p90"} & changed.keys():
        changed[key] *= factor
    changed["n"] = n
    (tmp_path / "after.json").write_text(json.dumps(after))
    got = program.main(["compare", str(results / "cpu-a.json"), str(tmp_path / "after.json")])
    out = capsys.readouterr().out
    assert got == code
    assert ("regressed │" in out) == bool(code)


def test_compare_widens_with_the_spread_of_either_file(tmp_path, results):
    after = deepcopy(RESULTS)
    after["step"]["rows"]["mnistjax"] = measured(8000.0, spread=0.2)
    (tmp_path / "after.json").write_text(json.dumps(after))
    files = [str(results / "cpu-a.json"), str(tmp_path / "after.json")]
    assert program.main(["compare", *files]) == 0


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["repport"], "command repport: not one of report"),
        (["--jobs", "step,epok"], "--jobs epok: not one of step"),
        (["vgg16", "--sizes", "33"], "--sizes 33: not one of 32, 64, 224"),
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


def test_compare_of_something_else_is_answered_in_one_line(tmp_path, results, capsys):
    other = tmp_path / "other.json"
    for text in ("[1]", "no JSON", '{"step": {}}'):
        other.write_text(text)
        assert program.main(["compare", str(results / "cpu-a.json"), str(other)]) == 3
        assert capsys.readouterr().err.count("\n") == 1


def test_the_environment_names_no_path_of_the_machine(monkeypatch):
    home = str(Path.home())
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", f"{home}/cache")
    monkeypatch.setenv("XLA_FLAGS", f"--xla_dump_to={home}/dump --xla_backend_optimization_level=1")
    facts = environment(threads=2, on="cpu")
    text = json.dumps(facts)
    assert home not in text and str(ROOT) not in text
    assert facts["flags"]["XLA_FLAGS"] == "--xla_dump_to=PATH --xla_backend_optimization_level=1"
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
    assert [*ran, "tpu_aot"] == list(JOBS) and ran["vgg16"].sizes == (32, 64, 224)
    assert ran["time_to_accuracy"].data_dir == Path("mnist")


def test_without_mnist_time_to_accuracy_is_a_gap(capsys):
    assert program.main(["time_to_accuracy"]) == 0
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
    def report(seconds):
        return {"reached": [seconds], "compile_seconds": 1.0, "versions": {}}

    most = {"a": [report(3.0), report(5.0), report(None)]}
    row = time_to_accuracy.summarise_target(most, 0)["a"]
    assert (row["seconds"], row["with_compiling"], row["seeds_that_reached_it"]) == (5.0, 6.0, 2)
    few = {"a": [report(3.0), report(None), report(None)]}
    row = time_to_accuracy.summarise_target(few, 0)["a"]
    assert "seconds" not in row and row["seeds_that_reached_it"] == 1
    assert measure(row) is None


@pytest.mark.parametrize(
    "name", ["environment", "limits", "problems", "regressions", "rows", "tables"]
)
def test_the_examples_of_docstrings_hold(name):
    module = importlib.import_module(f"benchmarks.{name}")
    result = doctest.testmod(module)
    assert result.attempted and not result.failed
