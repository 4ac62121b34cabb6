"""Damage one HDF5 file in many ways and read each copy in a process of its own.

    python tests/fuzz_hdf5.py FILE COUNT SEED

A copy differs in one to four bytes outside of the tensors and of their addresses: without a known
digest a changed weight is a weight, and bytes a bit further on are floats, too. Prints a JSON list
of outcomes: "right", "refused", "died" (which `sandbox.parse` would turn into an error) or what is
a bug. Forks before any thread is started.
"""

import json
import os
import random
import re
import signal
import sys
from pathlib import Path

import h5py
import numpy as np
from weights_files import TINY, random_params

from mnistjax.errors import WeightsError
from mnistjax.weights._child import limit
from mnistjax.weights.read import read_hdf5


def structure(path):
    """Positions of the bytes that are neither a tensor's nor its address."""
    whole, spans = path.read_bytes(), []

    def note(_, thing):
        if isinstance(thing, h5py.Dataset):
            start = thing.id.get_offset()
            spans.append(range(start, start + thing.nbytes))
            for found in re.finditer(re.escape(start.to_bytes(8, "little")), whole):
                spans.append(range(*found.span()))

    with h5py.File(path) as file:
        file.visititems(note)
    inside = {at for span in spans for at in span}
    return [at for at in range(len(whole)) if at not in inside]


def outcome(path, expected):
    """What reading a copy came to."""
    try:
        params = read_hdf5(path, TINY).params
    except WeightsError as error:
        return "refused" if "Fix: " in str(error) else f"odd error {error}"
    except BaseException as error:
        return f"escaped {error!r}"
    same = all(
        np.array_equal(params[layer][role], array)
        for layer, tensors in expected.items()
        for role, array in tensors.items()
    )
    return "right" if same else "wrong"


def in_child(path, expected):
    """`outcome` in a fork with limits and an alarm that kills."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        limit()
        signal.alarm(3)  # at its default action: no handler runs while C code loops
        os.write(writer, outcome(path, expected).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        said = file.read().decode()
    os.waitpid(child, 0)
    return said or "died"


def main(path, count, seed):
    whole, expected = path.read_bytes(), random_params()
    places, chance = structure(path), random.Random(seed)
    copy, outcomes = path.with_suffix(".copy.h5"), []
    for _ in range(count):
        data = bytearray(whole)
        for at in chance.choices(places, k=chance.randint(1, 4)):
            data[at] ^= chance.choice((chance.randint(1, 255), 1 << chance.randrange(8)))
        copy.write_bytes(data)
        outcomes.append(in_child(copy, expected))
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
