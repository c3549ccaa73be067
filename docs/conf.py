"""The site: `make docs` copies this folder to build/pages/ and builds build/site/ of it. What warns is an error."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]

import hpcauxvae  # noqa: E402

project = "hpcauxvae"
author = "The hpcauxvae developers"
version = release = hpcauxvae.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "extension.commands", "extension.docstrings", "extension.pages"]
exclude_patterns = ["extension"]
nb_execution_mode = "off"  # notebooks are kept as they were executed; the tests execute them
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
add_module_names = False
nitpicky = False  # shapes such as x_BZ stand in types that no inventory lists
html_theme = "pydata_sphinx_theme"
html_title = "hpcauxvae"
html_theme_options = {
    "navbar_align": "left",
    "navbar_persistent": ["search-button"],
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": True,
    "navigation_with_keys": True,
    "footer_start": ["copyright"],
    "footer_end": [],
    "header_links_before_dropdown": 7,
}
html_context = {"default_mode": "auto"}
html_show_sourcelink = False
html_copy_source = False
