"""How networks are trained from scratch: what each preset sets where no flag does. No jax here."""

from typing import NamedTuple

MODELS = ("small", "deep", "resnet", "mobilenet")
"""Those of `models.named`."""


class Recipe(NamedTuple):
    """A network, and how Adam trains it on a large set; a small one has more epochs."""

    model: str
    epochs: int
    batch_size: int
    learning_rate: float
    one_cycle: bool
    label_smoothing: float
    augment: str

    @property
    def falls(self) -> str:
        """To what the rate falls over all epochs; "" where it stays."""
        return "to a hundredth" if self.one_cycle else ""


RECIPES = {
    "standard": Recipe("small", 5, 128, 0.006, True, 0.05, "light"),
    "keras": Recipe("small", 5, 128, 0.001, False, 0.0, "none"),
    "quick": Recipe("small", 1, 64, 0.005, True, 0.05, "none"),
    "record": Recipe("deep", 20, 128, 0.003, True, 0.05, "strong"),
}
WHY = {
    "standard": "the article's network and epochs, Adam at a rate that rises and falls, labels"
    " smoothed, images changed a little each time they are seen",
    "keras": "the article's recipe exactly: Adam at one rate, for comparison",
    "quick": "one epoch, for 99 % in the least time",
    "record": "a deeper network, every image changed at random each time it is seen: half an hour"
    " on two cores",
}
