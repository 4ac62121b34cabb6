"""`{room} NAME`: what a public module lists in its stub of one room, from the docstrings."""

import ast
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


class Room(SphinxDirective):
    required_arguments = 1

    def run(self):
        room = self.arguments[0]
        module = "mnistjax.ops" if room == "ops" else "mnistjax"
        stub = ROOT / module.replace(".", "/") / "__init__.pyi"
        self.env.note_dependency(str(stub))
        lines = []
        for name in names_of(stub, "" if room == "ops" else room):
            kind = KINDS[isinstance(getattr(__import__(module, fromlist=[name]), name), type)]
            lines += [f".. {kind}:: {module}.{name}", "   :members:" * (kind == "autoclass"), ""]
        return self.parse_text_to_nodes("```{eval-rst}\n" + "\n".join(lines) + "\n```")


def setup(app) -> dict[str, bool]:
    app.add_directive("room", Room)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
