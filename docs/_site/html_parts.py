"""What the HTML has beside Sphinx's own: MathML, a search in Chinese, a link to the language."""

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.search.zh import SearchChinese
from sphinx.util import logging

logger = logging.getLogger(__name__)
COMMAND = re.compile(r"\\[a-zA-Z]+")
SYNONYMS = {"\\dots": "\\ldots", "\\lvert": "|", "\\rvert": "|", "\\lVert": "\\|", "\\rVert": "\\|"}
"""Commands of LaTeX that docutils knows by another name."""
ACCENTED = re.compile(
    r"<munderover>\s*(<mi>[^<]*</mi>)\s*(<m[a-z]+>(?:(?!</?munder).)*?)\s*"
    r'(<mo stretchy="false">[^<]*</mo>)\s*</munderover>',
    re.DOTALL,
)
"""An accented letter with an index, which docutils puts below and not beside it."""


def mathml(node: nodes.math | nodes.math_block, block: bool) -> str:
    """Return an equation as MathML, which browsers render without a script or a font."""
    text = COMMAND.sub(lambda found: SYNONYMS.get(found[0], found[0]), node.astext())
    try:
        beside = r"<msub><mover accent='true'>\1\3</mover>\2</msub>"
        return ACCENTED.sub(beside, tex2mathml(text, as_block=block))
    except MathError as error:
        logger.warning("%s in %r", error, text, location=node)
        return ""


def math(writer: Any, node: nodes.math) -> None:
    """Write an equation in a line."""
    writer.body.append(mathml(node, block=False))
    raise nodes.SkipNode


def math_block(writer: Any, node: nodes.math_block) -> None:
    """Write an equation of its own, with its number if it has one."""
    writer.body.append('<div class="equation">')
    writer.body.append(mathml(node, block=True))
    if node.get("number"):
        writer.body.append(f'<span class="eqno">({node["number"]})</span>')
    writer.body.append("</div>\n")
    raise nodes.SkipNode


class ChineseSearch(SearchChinese):
    """Search in Chinese pages; the words of a query are found by the browser.

    Sphinx 9.0 asks for a ChineseStemmer in the browser and brings the English one.
    """

    language_name = "English"
    js_splitter_code = """
const segmenter = new Intl.Segmenter("zh", {granularity: "word"});
var splitQuery = (query) =>
  [...segmenter.segment(query)].filter((part) => part.isWordLike).map((part) => part.segment);
"""


def add_other_language(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Hand the address of the page in the other language to the templates."""
    up = "../" * page.count("/")
    chinese = app.config.language == "zh_CN"
    suffix = f"{page}.html"
    context["other_language"] = f"{up}../{suffix}" if chinese else f"{up}zh/{suffix}"
    context["language"] = app.config.language


def setup(app: Sphinx) -> None:
    """Register all of them with Sphinx."""
    app.add_search_language(ChineseSearch)
    app.add_html_math_renderer(
        "mathml", inline_renderers=(math, None), block_renderers=(math_block, None)
    )
    app.connect("html-page-context", add_other_language)
