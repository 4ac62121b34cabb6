"""Committed results as a page and charts, and one file held against another."""

import json
import re
from copy import deepcopy

import pytest
from matplotlib.figure import Figure

import benchmarks.__main__ as program
from benchmarks.tables.panel import draw_panel
from benchmarks.tables.rows import STATUSES, Median

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


def test_compare_of_something_else_is_answered_in_one_line(tmp_path, results, capsys):
    other = tmp_path / "other.json"
    for text in ("[1]", "no JSON", '{"step": {}}'):
        other.write_text(text)
        assert program.main(["compare", str(results / "cpu-a.json"), str(other)]) == 3
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("limit", "drawn"), [(3.0, True), (50.0, False)])
def test_a_limit_far_beyond_every_bar_is_told_and_not_drawn(limit, drawn):
    axes = Figure().subplots()
    draw_panel(axes, {"mnistjax": Median(1.0, 0.9, 1.1, 3, "images/s", True)}, (limit, 7.0))
    (text,) = [text.get_text() for text in axes.texts if "matrix product" in text.get_text()]
    assert (axes.get_xlim()[1] > limit) == drawn == ("50.0 times" not in text)
