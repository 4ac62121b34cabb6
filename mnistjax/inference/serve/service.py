"""The questions that can be asked about a picture, and their answers as JSON."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from starlette.requests import ClientDisconnect, Request

from mnistjax.inference.classifier import Classifier
from mnistjax.inference.serve.batching import Batcher
from mnistjax.inference.serve.inside import make_inside
from mnistjax.inference.serve.nearest import Nearest, Training
from mnistjax.inference.serve.occlusion import covered, ground_of, heat
from mnistjax.inference.serve.pictures import data_uri, seen_in, tiles
from mnistjax.inference.serve.requests import Refused, number, picture_bytes

AT_ONCE = 64  # requests whose pictures are held in memory
DECODED_AT_ONCE = 2  # of up to 144 MB each
TOP = 10
MOST_CHARACTERS = 32


class Service:
    """What one classifier answers. Requests beyond `AT_ONCE` wait unread."""

    def __init__(self, classifier: Classifier, training: Callable[[], Training] | None) -> None:
        self._classifier = classifier
        self._logits = Batcher(classifier.logits)
        self._inside = make_inside(classifier.archive)
        self._nearest = Nearest(self._inside, training)
        self._held = asyncio.Semaphore(AT_ONCE)
        self._decoding = asyncio.Semaphore(DECODED_AT_ONCE)
        self._looking = asyncio.Lock()

    async def about(self, request: Request) -> dict[str, Any]:
        """What the page says of the network."""
        self._nearest.begin()
        about = self._classifier.about
        return {
            "network": about["network"]["network"],
            "trained_on": about["dataset"],
            "test_accuracy": about["test_accuracy"],
            "test_examples": about["test_examples"],
            "class_names": [*self._classifier.class_names],
            "shape": [*self._classifier.form.shape],
            "draws": self._classifier.form.ink_side is not None,
        }

    async def predict(self, request: Request) -> dict[str, Any]:
        """The likeliest classes of the picture, or with `segment` of each of its characters."""
        seen = await self._seen(request)
        if len(seen) > 1 and "segment" not in request.query_params:
            fix = "add ?segment=1 to the address to have each read"
            raise Refused(422, f"the picture shows {len(seen)} characters", fix)
        answers = self._classifier.answers(await self._logits(seen))
        each = [
            {"top": [{"name": name, "probability": p} for name, p in top], "seen": data_uri(image)}
            for top, image in zip(answers.top(TOP), seen, strict=True)
        ]
        return each[0] | ({"characters": each} if "segment" in request.query_params else {})

    async def inside(self, request: Request) -> dict[str, Any]:
        """What each layer makes of the picture, and which training images are like it."""
        seen = await self._one(request)
        if self._inside is None:
            note = "the network is not this library's own"
            return {"layers": [], "nearest": [], "note": note, "coming": False}
        async with self._looking:
            layers, hidden = await asyncio.to_thread(self._inside, seen)
        shown = [
            {"name": name, "shape": [*maps.shape[1:]], "image": data_uri(tiles(maps[0]))}
            for name, maps in layers.items()
        ]
        found, note = await self._nearest(hidden[0])
        nearest = [
            {"image": data_uri(image), "name": self._classifier.class_names[label]}
            for image, label in found
        ]
        coming = self._nearest.coming
        return {"layers": shown, "nearest": nearest, "note": note, "coming": coming}

    async def where(self, request: Request) -> dict[str, Any]:
        """Where the answer comes from: how much less likely it is with each place covered."""
        seen = await self._one(request)
        images, masks = covered(seen[0], ground_of(seen[0], self._classifier.form))
        before = self._classifier.answers(await self._logits(seen))
        label = int(before.labels[0])
        after = self._classifier.answers(await self._logits(images)).probabilities[:, label]
        probability = float(before.probabilities[0, label])
        return {
            "name": before.names[0],
            "probability": probability,
            "least": float(after.min()),
            "seen": data_uri(seen[0]),
            "heat": data_uri(heat(probability - after, masks)),
        }

    async def _one(self, request: Request) -> np.ndarray:
        """What the network sees of the picture, of several characters the one asked for."""
        seen, chosen = await self._seen(request), number(request, "character")
        if chosen >= len(seen):
            raise Refused(422, f"there are {len(seen)} characters", "send character=0")
        return seen[chosen : chosen + 1]

    async def _seen(self, request: Request) -> np.ndarray:
        async with self._held:
            body = await picture_bytes(request)
            with self._logits.expected():
                async with self._decoding:
                    if await request.is_disconnected():
                        raise ClientDisconnect
                    seen = await asyncio.to_thread(partial(seen_in, body, self._classifier.form))
        if len(seen) > MOST_CHARACTERS:
            why = f"the picture shows {len(seen)} characters, more than {MOST_CHARACTERS}"
            raise Refused(422, why, "send a part of it")
        if await request.is_disconnected():
            raise ClientDisconnect
        return seen
