"""What was found in a Keras file before anything of it is read."""

from dataclasses import dataclass, field
from typing import Literal

from mnistjax.models.vgg16_table import Tensor, is_head
from mnistjax.weights.hdf5 import printable, refuse

Layout = Literal["legacy", "keras legacy", "keras 3"]
_MOST = 20  # names of foreign layers that a note lists


@dataclass
class Found:
    """A file's layout and where in it each of VGG16's tensors lies, by (layer, role)."""

    layout: Layout
    paths: dict[Tensor, str] = field(default_factory=dict)
    head: dict[str, None] = field(default_factory=dict)
    """Names of layers that are none of VGG16's, in order: a set of them."""
    flipped: bool = False
    """Kernels are Theano's: rows and columns in reverse."""
    by_order: bool = False
    """Layers have no names, and were told by order and shape."""

    def add(self, tensor: Tensor, path: str) -> None:
        """Note a tensor, or the layer it is of if that is none of VGG16's.

        Raises `WeightsError` for a second tensor of one name.
        """
        if is_head(tensor[0]):
            self.head[tensor[0]] = None
            return
        if tensor in self.paths:
            raise refuse(path, f"a second {printable('/'.join(tensor))}")
        self.paths[tensor] = path

    @property
    def notes(self) -> tuple[str, ...]:
        """A phrase for all that is left out, changed or guessed."""
        notes = []
        if self.head:
            shown = ", ".join(map(printable, list(self.head)[:_MOST]))
            more = f" and {len(self.head) - _MOST} more" if len(self.head) > _MOST else ""
            notes.append(f"left out, not VGG16's: {shown}{more}")
        if self.flipped:
            notes.append("saved by Keras on Theano: kernels turned by 180 degrees")
        if self.by_order:
            notes.append("the file has no names: convolutions told by their order and shapes")
        return tuple(notes)
