from benchmarks.jobs import tpu_aot
from benchmarks.jobs.tpu_aot import CHIPS, JobConfig, line, main, row
from mnistjax import cli


def test_without_libtpu_it_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setattr(tpu_aot, "VENV", "that-is-not-there")
    assert cli.run(JobConfig, main, []) == 2
    (err,) = capsys.readouterr().err.splitlines()
    assert "libtpu" in err and "make bench-tpu" in err


def test_a_row_is_an_estimate_of_what_was_only_compiled():
    sizes = {"gflop": 1.0, "gb_accessed": 0.819, "peak_memory_mib": 5.0}
    chips = {"4": sizes | {"collectives": 1, "kinds_of_collectives": "all-reduce"}}
    got = row({"chips": chips, "versions": {}}, CHIPS["v5e"], 4)
    assert got["status"] == "compiled-only"
    assert got["estimate_ms"] == 1.0  # its bytes take longer than its operations
    assert "(an estimate)" in line("a step", got) and "1 all-reduce" in line("a step", got)


def test_a_compiler_that_fails_leaves_a_gap_with_its_reason():
    got = row({"missing": "failed: no such topology"}, CHIPS["v5e"], 1)
    assert got == {"status": "not run", "why": "failed: no such topology"}
    assert "no such topology" in line("a step", got)
