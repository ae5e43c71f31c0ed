"""What the HTML has beside Sphinx's own: MathML, the link to the other language."""

from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx


def math(writer: Any, node: nodes.math) -> None:
    """Write an equation in a line as MathML, which browsers render without a script or a font."""
    writer.body.append(tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def math_block(writer: Any, node: nodes.math_block) -> None:
    """Write an equation of its own, with its number if it has one."""
    writer.body.append('<div class="equation">')
    writer.body.append(tex2mathml(node.astext(), as_block=True))
    if node.get("number"):
        writer.body.append(f'<span class="eqno">({node["number"]})</span>')
    writer.body.append("</div>\n")
    raise nodes.SkipNode


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
    """Register both with Sphinx."""
    app.add_html_math_renderer(
        "mathml", inline_renderers=(math, None), block_renderers=(math_block, None)
    )
    app.connect("html-page-context", add_other_language)
