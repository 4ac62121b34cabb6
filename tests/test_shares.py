"""Rows of a cache made by several processes: each once, and the same end for all."""

import json
from pathlib import Path

import pytest
from several_processes import DEADLINE, free_port, python

BATCHES, ROWS = [0, 3, 6, 9], [float(row) for row in range(10)]


@pytest.fixture(scope="module")
def came_to(tmp_path_factory):
    """What each case of made_by_two.py gave in the two processes."""
    place, where = tmp_path_factory.mktemp("two"), f"127.0.0.1:{free_port()}"
    script = Path(__file__).parent / "made_by_two.py"
    both = [python(str(script), where, str(number), str(place), cache=place) for number in range(2)]
    said = [process.communicate(timeout=DEADLINE) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    first, second = (json.loads(out.splitlines()[-1]) for out, _ in said)
    return {case: (first[case], second[case]) for case in first}


def test_each_row_is_made_once_and_kept_by_the_first_who_sees_a_directory(came_to):
    assert came_to["who keeps"] == ([[0, 0], [0, 1]], [[0, 0], [0, 1]])
    assert came_to["one directory"] == ([ROWS, 10, BATCHES], [ROWS, 0, BATCHES])
    assert came_to["found"] == ([ROWS, 0, []], [ROWS, 0, []])


def test_in_directories_of_their_own_both_keep_what_was_made_once(came_to):
    assert came_to["two directories"] == ([ROWS, 10, BATCHES], [ROWS, 10, BATCHES])
    assert came_to["the second has lost its own"] == ([ROWS, 0, []], [ROWS, 10, []])


def test_a_stop_of_one_stops_both_and_they_go_on_after_what_is_kept(came_to):
    one_late = ["Unfinished", 9, [0, 3, 6]]  # heard with the next batch
    assert came_to["the second stops"] == (one_late, one_late)
    assert came_to["and both go on"] == ([ROWS, 1, [9]], [ROWS, 0, [9]])
    assert came_to["the first stops"] == (["Unfinished", 3, [0]], ["Unfinished", 3, [0]])


def test_what_one_cannot_keep_none_has(came_to):
    assert came_to["too large"] == (["TooLarge", None, []], ["TooLarge", None, []])
    first, second = came_to["the second cannot keep"]
    assert first[0] == "process 1" and second[0] != "process 1"
    first, second = came_to["the first cannot keep"]
    assert first[0] != "process 0" and second[0] == "process 0"
