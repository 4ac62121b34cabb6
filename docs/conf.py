"""How `make docs` builds the pages: Sphinx, Markdown by MyST, Furo; nothing from the network."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent / "_ext"), str(Path(__file__).parent.parent)]

project = "mnistjax"
html_title = "mnistjax"
extensions = ["myst_parser", "sphinx.ext.autodoc", "mathml", "repository", "room"]
exclude_patterns = ["_build", "_ext", "figures"]

highlight_language = "text"  # a block that names no language is a command or a listing

html_theme = "furo"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["pages.css"]

default_role = "code"  # docstrings have Markdown's backquotes
autodoc_typehints = "none"  # in the signature they would fill a screen; the text names shapes
autodoc_preserve_defaults = True  # `to_unit`, not `<function to_unit>`
autodoc_member_order = "bysource"

myst_enable_extensions = ["dollarmath", "colon_fence", "attrs_inline", "attrs_block", "deflist"]
myst_heading_anchors = 4  # links to sections are those of GitHub
