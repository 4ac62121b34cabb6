"""`python -m experiments.predict`: what it prints where, and what it refuses."""

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest
from flax import nnx

import mnistjax as mj
from experiments.predict import PredictConfig, main
from mnistjax import cli
from mnistjax.models.described import describe
from mnistjax.models.functional import functional
from mnistjax.runs.archive import ARCHIVE, write_archive


def make_run(place, *, channels=1, ink_side: int | None = 20, names=tuple("0123456789")):
    """A network that never trained: what is asked here is not whether it is right."""
    shape = (28, 28, channels)
    model = mj.CNN(image_shape=shape, num_classes=len(names), rngs=nnx.Rngs(0))
    images = {"shape": shape, "fit": "crop", "photos": ink_side is None, "ink_side": ink_side}
    about = {"network": describe(model), "images": images, "class_names": names}
    place.mkdir()
    write_archive(place / ARCHIVE, functional(model)[1], (), about)
    return place


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "digits")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs") / "photos"
    return make_run(place, channels=3, ink_side=None, names=("cat", "=dog,"))


@pytest.fixture(autouse=True)
def in_a_place_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def strokes(path, count=1):
    image = PIL.Image.new("L", (100 * count, 100), 255)
    for i in range(count):
        PIL.ImageDraw.Draw(image).line([(100 * i + 50, 20), (100 * i + 40, 80)], 0, 9)
    image.save(path)
    return str(path)


def predict(*argv):
    return cli.run(PredictConfig, main, [*map(str, argv)])


def test_a_line_for_each_picture(digits, tmp_path, capsys):
    (tmp_path / "in" / "deeper").mkdir(parents=True)
    strokes(tmp_path / "in" / "deeper" / "b.png")
    strokes(tmp_path / "in" / "a.jpg")
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    assert predict(digits, "in", strokes(tmp_path / "c.png"), "--top", 2) == 0
    out, err = capsys.readouterr()
    names = [line.split()[0] for line in out.splitlines()]
    assert names == ["in/a.jpg", "in/deeper/b.png", str(tmp_path / "c.png")]
    answers = mj.load(digits).predict([*map(tmp_path.joinpath, names)])
    for line, top in zip(out.splitlines(), answers.top(2), strict=True):
        assert line.split()[1:] == [word for c, share in top for word in (c, f"{share:.2%}")]
    assert "no pictures" in err and "1 in folders" in err


def test_json_and_csv_say_the_same_and_nothing_else(digits, tmp_path, capsys):
    file = strokes(tmp_path / "a.png")
    assert predict(digits, file, file, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert predict(digits, file, file, "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["file"] for row in told["answers"]] == [file, file] and len(rows) == 6
    first = told["answers"][0]["top"]
    assert [row["class"] for row in rows[:3]] == [one["class"] for one in first]
    shares = [float(row["probability"]) for row in rows[:3]]
    np.testing.assert_allclose(shares, [one["probability"] for one in first], atol=1e-6)
    assert shares == sorted(shares, reverse=True)


def test_photos_are_read_as_in_training_and_names_survive_csv(photos, tmp_path, capsys):
    PIL.Image.new("RGB", (60, 40), (200, 30, 30)).save(tmp_path / "p.png")
    assert predict(photos, "p.png", "--csv", "--show") == 0
    out, err = capsys.readouterr()
    assert {row["class"] for row in csv.DictReader(io.StringIO(out))} == {"cat", "=dog,"}
    assert "wrote predict-p.png" in err
    assert predict(photos, "p.png", "--segment") == 2
    assert "drop --segment" in capsys.readouterr().err


def test_a_picture_on_stdin(digits, tmp_path, monkeypatch, capsys):
    path = strokes(tmp_path / "x.png")
    assert predict(digits, path, "--json") == 0
    (of_file,) = json.loads(capsys.readouterr().out)["answers"]
    stdin = io.TextIOWrapper(io.BytesIO(Path(path).read_bytes()))
    monkeypatch.setattr("sys.stdin", stdin)
    assert predict(digits, "-", "--json", "--show") == 0
    said = capsys.readouterr()
    (of_stdin,) = json.loads(said.out)["answers"]
    assert of_stdin == of_file | {"file": "-"} and "wrote" in said.err


def test_several_characters(digits, tmp_path, capsys):
    file = strokes(tmp_path / "row.png", count=3)
    assert predict(digits, file) == 3
    assert "shows 3 characters. Fix: pass --segment" in capsys.readouterr().err
    assert predict(digits, file, "--segment", "--json") == 0
    assert [row["character"] for row in json.loads(capsys.readouterr().out)["answers"]] == [1, 2, 3]


def test_what_has_no_answer_is_named_all_at_once(digits, tmp_path, capsys):
    good = strokes(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no")
    PIL.Image.new("L", (90, 90), 255).save(tmp_path / "empty.png")
    files = [good, "bad.png", "empty.png"]
    assert predict(digits, *files) == 3
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert all(word in err for word in ("bad.png (", "empty.png (shows no", "--skip-unreadable"))
    assert predict(digits, *files, "--skip-unreadable", "--json") == 0
    out, err = capsys.readouterr()
    assert [row["file"] for row in json.loads(out)["left_out"]] == files[1:]
    assert "bad.png" in err
    assert predict(digits, "bad.png", "empty.png", "--skip-unreadable") == 3


def test_show_writes_a_picture_for_each_and_says_where(digits, tmp_path, capsys):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        strokes(tmp_path / place / "7 $x.png")
    assert predict(digits, "a", "b", "--show", "--output", "shown") == 0
    assert {path.name for path in (tmp_path / "shown").iterdir()} == {
        "predict-7_x.png",
        "predict-7_x-2.png",
    }
    assert capsys.readouterr().err.count("wrote shown/predict-7_x") == 2
    with PIL.Image.open(tmp_path / "shown" / "predict-7_x.png") as image:
        assert image.width > 3 * image.height


def test_names_that_no_terminal_should_see(digits, tmp_path, capsys):
    name = os.fsdecode(b"\x1b[31m\xff\n.png")
    Path(strokes(tmp_path / "a.png")).replace(tmp_path / name)
    for flags in ((), ("--csv",), ("--json",)):
        assert predict(digits, tmp_path / name, *flags) == 0
        out, _ = capsys.readouterr()
        assert "\x1b" not in out
        out.encode()
    (tmp_path / name).write_bytes(b"no")
    assert predict(digits, tmp_path / name) == 3
    err = capsys.readouterr().err
    assert "\x1b" not in err and len(err.splitlines()) == 1


USAGE = {
    "no file": ([], "no picture is named"),
    "top": (["x.png", "--top", "0"], "--top 0"),
    "both": (["x.png", "--json", "--csv"], "--json with --csv"),
    "temperature": (["x.png", "--temperature", "0"], "--temperature 0"),
    "platform": (["x.png", "--platform", "cpuu"], "did you mean cpu"),
}


@pytest.mark.parametrize(("flags", "why"), USAGE.values(), ids=USAGE)
def test_usage_is_checked_first(digits, capsys, flags, why):
    assert predict(digits, *flags) == 2
    assert why in capsys.readouterr().err


def test_what_is_not_there(digits, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for file, why in (("nowhere.png", "no such file"), ("empty", "is empty")):
        assert predict(digits, file) == 3
        assert why in capsys.readouterr().err
    assert predict(tmp_path / "norun", strokes(tmp_path / "a.png")) == 5
    assert "no such run" in capsys.readouterr().err
