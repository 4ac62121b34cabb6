"""Several seeds at once are those runs one by one; what they make together, and how two compare."""

import json

import numpy as np
import pytest
from conftest import few_digits_to_test, nothing_drawn
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import mnistjax as mj
from experiments import common, compare
from experiments.finetune import main as finetune_main
from experiments.finetune_flags import FinetuneConfig
from experiments.scratch import ScratchConfig, main
from mnistjax import cli
from mnistjax.errors import StorageError
from mnistjax.inference.compare import compare_runs
from mnistjax.inference.several import Several, several_of, spread
from mnistjax.runs.result import write_test_logits

pytestmark = pytest.mark.usefixtures("without_pictures")
SMALL = "--dataset", "digits", "--train-size", "200", "--batch-size", "50", "--epochs", "2"


def scratch(output, *flags):
    argv = [*SMALL, "--augment", "none", "--quiet", *flags, "--output", str(output)]
    return cli.run(ScratchConfig, main, argv)


def summary(directory):
    return json.loads((directory / "summary.json").read_text())


@pytest.fixture(scope="module", autouse=True)
def few_to_test():
    with few_digits_to_test(100):
        yield


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    directory = tmp_path_factory.mktemp("seeds") / "four"
    with nothing_drawn():
        assert scratch(directory, "--seed", "3", "--seeds", "4") == 0
    return directory


def test_each_of_four_is_the_run_it_would_be_alone(four, tmp_path):
    together = summary(four)
    assert together["seeds"] == [3, 4, 5, 6]
    for seed in 3, 6:
        assert scratch(tmp_path / str(seed), "--seed", str(seed)) == 0
        alone = summary(tmp_path / str(seed))
        assert together["params_sha256"][str(seed)] == alone["params_sha256"]
        assert together["test_accuracies"][str(seed)] == alone["test_accuracy"]
    assert len({*together["params_sha256"].values()}) == 4


def test_the_summary_is_of_all_and_the_report_shows_each(four):
    got, each = summary(four), [summary(four / f"seed-{seed}") for seed in (3, 4, 5, 6)]
    accuracies = [one["test_accuracy"] for one in each]
    assert got["test_accuracy"] == pytest.approx(np.mean(accuracies))
    assert got["test_accuracy_sd"] == pytest.approx(np.std(accuracies, ddof=1))
    wanted = stats.ttest_1samp(accuracies, 0).confidence_interval(0.95)
    assert got["test_accuracy_interval"] == pytest.approx([wanted.low, wanted.high])
    runs = [mj.Run(four / f"seed-{seed}") for seed in (3, 4, 5, 6)]
    images = mj.load_dataset("digits").test.images
    shares = [mj.load(run).predict(images).probabilities for run in runs]
    answer = np.mean(shares, axis=0).argmax(axis=1)
    labels = several_of(runs).labels
    assert got["ensemble_accuracy"] == (answer == labels).mean()
    alike = (np.argmax(shares, axis=2) == np.argmax(shares, axis=2)[0]).all(axis=0)
    assert got["images_disagreed"] == (~alike).sum() > 0
    page = (four / "report.html").read_text()
    assert all(f'href="seed-{seed}/report.html"' in page for seed in (3, 4, 5, 6))
    drawn = {path.stem for path in (four / "figures").iterdir()}
    assert drawn == {"accuracies", "curves", "reliability", "disagreed"}


def test_stopped_in_a_member_it_goes_on_to_the_same_bits_and_more_may_be_added(
    four, tmp_path, capsys, signal_at
):
    run, wanted = tmp_path / "run", summary(four)["params_sha256"]
    with signal_at(3):
        assert scratch(run, "--seed", "3", "--seeds", "2") == 143
    said = capsys.readouterr().err
    assert said.startswith("interrupted: seed 3: step ")
    assert said.endswith(f"--resume --output {run} goes on\n")
    argv = ["--resume", "--output", str(run), "--quiet"]
    assert cli.run(ScratchConfig, main, argv) == 0
    assert summary(run)["params_sha256"] == {seed: wanted[seed] for seed in "34"}
    assert cli.run(ScratchConfig, main, [*argv, "--seeds", "3"]) == 0
    assert summary(run)["params_sha256"] == {seed: wanted[seed] for seed in "345"}


def test_one_run_stays_one_and_several_several(four, capsys):
    assert scratch(four / "seed-3", "--seed", "3", "--seeds", "2", "--resume") == 5
    assert "seeds 2 (was 1)" in capsys.readouterr().err
    assert scratch(four, "--seed", "3", "--seeds", "1", "--resume") == 5
    assert "seeds 1 (was 4)" in capsys.readouterr().err
    with pytest.raises(StorageError, match=r"holds runs of 4 seeds.*seed-3"):
        mj.load(four)


def test_one_that_diverges_is_named_and_the_others_end(tmp_path, capsys, monkeypatch):
    import mnistjax.runs.seeds as seeds
    from mnistjax.errors import NumericalError

    def train_one(seed, directory, options):
        if seed == 1:
            raise NumericalError("step 7", "the loss is nan", fix="pass a smaller rate")
        directory.mkdir()
        (directory / "config.json").write_text("{}")

    got = seeds.train_seeds(
        train_one, tmp_path / "run", seeds=[0, 1, 2], options=mj.RunOptions(quiet=True)
    )
    assert [*got.runs] == [0, 2] and got.diverged == {1: "the loss is nan"}
    with pytest.raises(NumericalError, match="seed 1: 1 of 3 diverged; the first: the loss is nan"):
        got.refuse_diverged()
    assert scratch(tmp_path / "all", "--seeds", "2", "--learning-rate", "1e30") == 6
    said = capsys.readouterr().err
    assert said.startswith("error: seed 0, 1: 2 of 2 diverged") and said.count("\n") == 1


def test_the_model_is_shown_once_a_command(tmp_path, capsys):
    def train(config, directory):
        for _ in range(2):  # as two seeds do
            common.show_model(config, [], "recipe standard")
        return mj.load_dataset("digits")

    for _ in range(2):
        common.over_seeds(ScratchConfig(), train, tmp_path)
        assert capsys.readouterr().out.count("recipe standard") == 1


@pytest.mark.soak
def test_fine_tuning_has_seeds_too(tmp_path):
    argv = ["--dataset", "digits", "--weights", "random", "--train-size", "60", "--quiet"]
    argv += ["--epochs", "1", "--seeds", "2", "--output", str(tmp_path / "run")]
    assert cli.run(FinetuneConfig, finetune_main, argv) == 0
    assert summary(tmp_path / "run")["seeds"] == [0, 1]


def as_run(directory, logits, labels, *, seed=None, seeds=None, **more):
    """A finished run by what `compare` reads of it."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(more))
    said = {"seed": seed} if seeds is None else {"seeds": seeds}
    (directory / "summary.json").write_text(json.dumps(said))
    if logits is not None:
        write_test_logits(directory / "test_logits.npz", logits, labels)
    return directory


def answering(answers):
    return np.eye(3, dtype=np.float32)[answers]


def test_seeds_are_paired(tmp_path):
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 400)

    def several(name, error, **more):
        as_run(tmp_path / name, None, None, seeds=[0, 1, 2, 3], **more)
        shares = []
        for seed in range(4):
            wrong = random.random(400) < error
            answers = np.where(wrong, (labels + 1) % 3, labels)
            as_run(tmp_path / name / f"seed-{seed}", answering(answers), labels, seed=seed, **more)
            shares.append((answers == labels).mean())
        return np.array(shares)

    good, bad = several("good", 0.02, rate=1), several("bad", 0.3, rate=2)
    found = compare_runs(tmp_path / "bad", tmp_path / "good")
    wanted = stats.ttest_rel(good, bad).confidence_interval(0.95)
    assert (found.difference.low, found.difference.high) == pytest.approx(wanted)
    assert found.difference.mean == pytest.approx((good - bad).mean()) and found.means_something
    assert found.differing == {"rate": (2, 1)} and found.seeds == [0, 1, 2, 3]
    assert not compare_runs(tmp_path / "good", tmp_path / "good").means_something


def test_two_networks_are_compared_on_their_images(tmp_path, capsys):
    labels = np.zeros(100, int)
    first, second = labels.copy(), labels.copy()
    first[:8], second[6:10] = 1, 1  # 6 only the second has right, 2 only the first
    a = as_run(tmp_path / "a", answering(first), labels, seed=0)
    b = as_run(tmp_path / "b", answering(second), labels, seed=9)
    found = compare_runs(a, b)
    variance = (6 + 2 - (6 - 2) ** 2 / 100) / 100**2
    half = stats.norm.ppf(0.975) * variance**0.5
    assert found.difference.mean == pytest.approx(0.04)
    assert found.difference.high == pytest.approx(0.04 + half) and not found.means_something
    assert cli.run(compare.CompareConfig, compare.main, [str(a), str(b)]) == 0
    said = capsys.readouterr().out
    assert "B - A = +4.00 points, 95 % interval -1.49 .. +9.49 over these test images" in said
    assert "it means nothing, 0 lies within; other seeds may differ by more" in said


def test_what_cannot_be_compared_is_refused_in_one_line(tmp_path, capsys):
    labels = np.zeros(4, int)
    a = as_run(tmp_path / "a", answering(labels), labels, seed=0)
    other = as_run(tmp_path / "other", answering(labels), labels + 1, seed=0)
    for seeds in ([0, 1], [2, 3]):
        place = as_run(tmp_path / str(seeds[0]), None, None, seeds=seeds)
        for seed in seeds:
            as_run(place / f"seed-{seed}", answering(labels), labels, seed=seed)
    old = as_run(tmp_path / "old", None, None, seed=0)
    for pair, words in (
        ((a, other), "has other test images"),
        ((tmp_path / "0", tmp_path / "2"), "no seed in common"),
        ((a, old), "test_logits.npz: there is none yet. Fix: let its run end with --resume"),
        ((a, tmp_path / "nowhere"), "holds no run"),
    ):
        assert cli.run(compare.CompareConfig, compare.main, [*map(str, pair)]) == 5
        said = capsys.readouterr().err
        assert words in said and said.count("\n") == 1


@settings(max_examples=30)
@given(st.integers(2, 5), st.integers(0, 10**6))
def test_disagreement_is_that_of_all_pairs(members, seed):
    logits = np.random.default_rng(seed).normal(size=(members, 7, 3))
    answers = logits.argmax(axis=2)
    pairs = [(i, j) for i in range(members) for j in range(i)]
    wanted = np.mean([answers[i] != answers[j] for i, j in pairs], axis=0)
    got = Several(logits, np.zeros(7, int)).disagreement
    np.testing.assert_allclose(got, wanted, atol=1e-12)


def test_one_seed_says_nothing_of_others():
    assert np.isnan(spread(np.array([0.5])).sd) and spread(np.array([0.5])).mean == 0.5
    assert not Several(np.ones((1, 4, 2)), np.zeros(4, int)).disagreement.any()


REFUSED = [
    ("--seeds 0", "--seeds 0: must be at least 1"),
    ("--seeds 2 --find-learning-rate", "--seeds 2: --find-learning-rate trains none"),
    ("--seeds 3 --seed 4294967294", "--seed 4294967294: must lie in 0..4294967293"),
]


@pytest.mark.parametrize(("flags", "words"), REFUSED)
def test_what_cannot_be_is_refused(flags, words, tmp_path, capsys):
    assert scratch(tmp_path / "run", *flags.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {words}") and said.count("\n") == 1
