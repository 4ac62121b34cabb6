"""Augmentation as text: `light`, `strong`, or `shift,rotation=15,...`. Imports no jax."""

from mnistjax.errors import UsageError

LIMITS: dict[str, float] = dict.fromkeys(("shift", "elastic", "cutout", "flip"), 1.0)
LIMITS |= {"rotation": 180.0, "scale": 10.0, "shear": 60.0, "crop": 0.99}
USUAL = {"shift": 0.07, "rotation": 10.0, "scale": 0.1, "shear": 10.0}
USUAL |= {"elastic": 0.03, "cutout": 0.3, "crop": 0.5, "flip": 0.5}
"""What a name alone stands for."""

Strengths = dict[str, float]

# Of characters, which a mirror makes others of, and of photos, which it does not.
CHARACTERS: dict[str, Strengths] = {
    "light": {"shift": 0.07, "rotation": 10.0, "scale": 0.1},
    "strong": {"shift": 0.1, "rotation": 15.0, "scale": 0.15, "shear": 10.0, "elastic": 0.03},
}
PHOTOS: dict[str, Strengths] = {
    "light": {"shift": 0.125, "flip": 0.5},
    "strong": {"shift": 0.125, "flip": 0.5, "rotation": 10.0, "scale": 0.2, "cutout": 0.4},
}
KINDS = ("none", *CHARACTERS)
AUGMENT = "|".join((*KINDS, "NAME[=X],..."))
"""What may be said, for `--help`."""


def parse_augmentation(text: str, *, photos: bool = False) -> Strengths:
    """The strengths that `text` asks for, of `Augmentation`; none of "none".

    "light" and "strong" are others for photos than for characters. Raises `UsageError` for a name
    that is none of these, or a strength that is no number in its range.

    >>> parse_augmentation("light")
    {'shift': 0.07, 'rotation': 10.0, 'scale': 0.1}
    >>> parse_augmentation("rotation=5,flip")
    {'rotation': 5.0, 'flip': 0.5}
    """
    if text in KINDS:
        return dict((PHOTOS if photos else CHARACTERS).get(text, {}))
    strengths: Strengths = {}
    for item in text.split(","):
        name, given, value = (part.strip() for part in item.partition("="))
        UsageError.unless_in("`augment`", name, [*KINDS, *LIMITS])
        if name in KINDS:
            why, fix = f"{name} stands alone", f"pass `augment={name}`, or names without it"
            raise UsageError(f"`augment` {text}", why, fix=fix)
        try:
            strengths[name] = float(value) if given else USUAL[name]
        except ValueError:
            fix = f"pass for example `augment={name}={USUAL[name]:g}`"
            raise UsageError(f"`augment` {item}", "is no NAME=NUMBER", fix=fix) from None
    for name, value in strengths.items():
        if why := out_of_range(name, value):
            fix = f"pass for example `augment={name}={USUAL[name]:g}`"
            raise UsageError(f"`augment` {name}={value:g}", why, fix=fix)
    return strengths


def out_of_range(name: str, strength: float) -> str:
    """Why `strength` cannot be; empty if it can.

    >>> out_of_range("flip", 2.0), out_of_range("flip", 0.5)
    ('must lie in 0..1', '')
    """
    return "" if 0 <= strength <= LIMITS[name] else f"must lie in 0..{LIMITS[name]:g}"
