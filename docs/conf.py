"""Settings of Sphinx for the documentation; ``python docs/build.py`` builds it."""

import logging
import sys
from pathlib import Path

import jieba
from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from _site import html_parts, interface_hooks, inventories  # noqa: E402

from iddpm import __version__  # noqa: E402

jieba.setLogLevel(logging.WARNING)  # it splits Chinese into words for the search

project = "iddpm"
author = "the iddpm maintainers"
version = release = __version__
language = "en"  # the build of the Chinese pages sets zh_CN
locale_dirs = [str(HERE / "locale")]
gettext_compact = False
gettext_location = False
gettext_additional_targets: list[str] = []

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
]
if not tags.has("chinese"):  # noqa: F821 - of Sphinx; the English pages alone show the source
    extensions.append("sphinx.ext.viewcode")
exclude_patterns: list[str] = []
nitpicky = True
nitpick_ignore_regex = inventories.IGNORED
highlight_language = "text"
suppress_warnings = ["config.cache"]  # tables of functions in this file cannot be pickled

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist", "attrs_block"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # docs/_site/notebooks.py has executed them
nb_merge_streams = True  # one block for the lines that a cell prints

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
python_display_short_literal_types = True
intersphinx_mapping = inventories.mapping(HERE / "_build")

html_theme = "furo"
html_title = f"iddpm {version}"
html_static_path = [str(HERE / "_static")]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
templates_path = [str(HERE / "_templates")]
html_math_renderer = "mathml"
html_theme_options = {"navigation_with_keys": False, "top_of_page_buttons": []}
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "language.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect what the site has of its own."""
    interface_hooks.setup(app)
    html_parts.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
