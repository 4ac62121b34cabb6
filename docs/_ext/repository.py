"""Links to files that are no pages lead to the checkout, of which the built site is a part."""

import os
from pathlib import Path

from docutils import nodes
from sphinx import addnodes


def lead_out(app, doctree: nodes.document) -> None:
    page = app.env.docname
    here = (Path(app.srcdir) / page).parent
    built = (Path(app.outdir) / page).parent
    for node in list(doctree.findall(nodes.Element)):
        if not isinstance(node, addnodes.pending_xref | addnodes.download_reference):
            continue
        target = node.get("reftarget", "")
        place = Path(target) if node.get("refdomain") == "doc" else here / target
        place = Path(os.path.normpath(place))
        if node.get("refdomain") == "doc":
            place = place.with_suffix(".md")
        if not place.exists() or place.is_relative_to(app.srcdir):
            continue
        uri = os.path.relpath(place, built)
        node.replace_self(nodes.reference("", "", *node.children, refuri=uri, internal=False))


def setup(app) -> dict[str, bool]:
    app.connect("doctree-read", lead_out, priority=100)  # before Sphinx copies what it links to
    return {"parallel_read_safe": True, "parallel_write_safe": True}
