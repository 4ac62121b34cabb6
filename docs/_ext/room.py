"""`{room} NAME`: what a public module lists in its stub of one room, from the docstrings."""

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path

from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]
KINDS = {True: "autoclass", False: "autofunction"}


def names_of(stub: Path, room: str = "") -> list[str]:
    """What `stub` imports from `room`, in its order; of no room, all but modules."""
    found = [node for node in ast.parse(stub.read_text()).body if isinstance(node, ast.ImportFrom)]
    return [
        name.asname or name.name
        for node in found
        if node.module and f"{node.module}.".startswith(f"{room}." if room else "")
        for name in node.names
    ]


def called(there: object) -> str:
    """How a Flax module is made, which its metaclass hides; of all else Sphinx sees it."""
    if not isinstance(there, type) or type(there).__call__ is type.__call__:
        return ""
    _, *parameters = inspect.signature(there.__init__).parameters.values()
    plain = [one.replace(annotation=inspect.Parameter.empty) for one in parameters]
    return str(inspect.Signature(plain))


class Room(SphinxDirective):
    required_arguments = 1

    def run(self):
        room = self.arguments[0]
        module = "mnistjax.ops" if room == "ops" else "mnistjax"
        stub = ROOT / module.replace(".", "/") / "__init__.pyi"
        self.env.note_dependency(str(stub))
        lines = []
        for name in names_of(stub, "" if room == "ops" else room):
            there = getattr(import_module(module), name)
            kind = KINDS[isinstance(there, type)]
            lines += [f".. {kind}:: {module}.{name}{called(there)}"]
            lines += ["   :members:" * (kind == "autoclass"), ""]
        return self.parse_text_to_nodes("```{eval-rst}\n" + "\n".join(lines) + "\n```")


def with_names_of_defaults(_app, _what, _name, _obj, _options, signature, returns):
    """Defaults by their names: a dataclass has objects for them, whose source Sphinx cannot see."""
    if signature is None:
        return None
    named = re.sub(r"<function (\w+)>", r"\1", signature)
    return named.replace("<factory>", "..."), returns


def without_field_numbers(_app, _what, _name, _obj, _options, lines):
    """Nothing of a field that its class explains; Python says "Alias for field number 0"."""
    if lines and re.fullmatch(r"Alias for field number \d+", lines[0]):
        lines.clear()


def setup(app) -> dict[str, bool]:
    app.add_directive("room", Room)
    app.connect("autodoc-process-signature", with_names_of_defaults)
    app.connect("autodoc-process-docstring", without_field_numbers)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
