"""Sphinx configuration: `make docs` builds the site."""

import sys
from pathlib import Path

from trio_tlsdown import __version__

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "trio_tlsdown"
author = "The trio_tlsdown authors"
html_show_copyright = False
release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
    "sphinx.ext.graphviz",
    "sphinxcontrib_trio",
    "sphinxcontrib.towncrier",  # what the next release will bring
    "drawings",  # docs/extensions
]
towncrier_draft_working_directory = Path(__file__).parent.parent
towncrier_draft_autoversion_mode = "draft"
towncrier_draft_include_empty = False
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"trio_tlsdown {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
graphviz_output_format = "svg"

myst_enable_extensions = ["deflist", "colon_fence"]
myst_heading_anchors = 3
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [
    # What a signature shows, and nobody has to look up.
    (
        r"py:.*",
        r"(.*\.)?(Ts|S|T_Transport|T_Stream|TracebackType|End|_Pipe|RecordKeys)",
    ),
    (r"py:.*", r".*\.(ClientRegistry|ServerRegistry|TaskCounter|ServerOptions)"),
    (r"py:.*", r"_ssl\.SSLSession"),
    (r"py:.*", r"(httpcore|httpx)\..*"),  # they have no inventory
]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = False
napoleon_custom_sections = [("Cancellation", "notes_style")]

# The names of other projects that our docstrings use. There is no network where these
# pages are built, so they are kept here, in the plain text of inventory version 1.
intersphinx_mapping = {
    "python": ("https://docs.python.org/3/", "inventories/python.inv"),
    "trio": ("https://trio.readthedocs.io/en/stable/", "inventories/trio.inv"),
    "trustme": ("https://trustme.readthedocs.io/en/stable/", "inventories/trustme.inv"),
}
intersphinx_disabled_reftypes = ["std:doc"]
