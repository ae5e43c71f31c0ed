"""How docstrings become reStructuredText, and where the names in them lead.

A docstring is plain text with roles and literals: a star is part of a shape such as
[N, C, *spatial] and no markup, and a colon in the text of a field does not end a type.
"""

import importlib
import inspect
import re
from functools import cache
from typing import Any, NotRequired, Required, Unpack, get_args, get_origin

from docutils import nodes
from pydantic import BaseModel
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.inspect import stringify_signature
from torch import nn

import iddpm

KEYWORD = inspect.Parameter.KEYWORD_ONLY
LITERAL = re.compile(r"(``.*?``|`[^`]*`)")
SEVERAL = re.compile(r"^:(ivar|param|keyword) \w+(, \w+)+:")
PLAIN = ("attribute", "data", "property")
_kept: dict[str, list[str]] = {}
_kept_class: list[type] = []
"""The class whose members are read; its docstring comes before theirs."""


def escape(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Escape stars outside of literals; keep the text of fields from napoleon."""
    for number, line in enumerate(lines):
        parts = LITERAL.split(line)
        parts[::2] = [part.replace("*", "\\*") for part in parts[::2]]
        lines[number] = "".join(parts)
    if what in PLAIN:
        _kept[name] = list(lines)
    if what == "class":
        _kept_class[:] = [value]


def join_names(
    app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """Keep "low, high: text" in one entry; Sphinx takes the first name for a type."""
    for number, line in enumerate(lines):
        lines[number] = SEVERAL.sub(lambda found: found[0].replace(", ", ","), line)


def restore(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Put the text of a field back, which napoleon takes for a type and a text."""
    if what in PLAIN:
        lines[:] = _kept.pop(name)


def skip(app: Sphinx, what: str, name: str, value: Any, skipped: bool, options: Any) -> bool | None:
    """Leave out fields without a text of their own: the list of attributes describes them."""
    if not str(getattr(value, "__doc__", "")).startswith("Alias for field number"):
        return None
    owner = _kept_class[-1]
    described = ModuleAnalyzer.for_module(owner.__module__).find_attr_docs()
    return None if (owner.__qualname__, name.rpartition(".")[2]) in described else True


def signature(
    app: Sphinx, what: str, name: str, value: Any, options: Any, arguments: str, returned: str
) -> tuple[str, str] | None:
    """Show the options that ``**options: Unpack[...]`` stands for; none of settings."""
    if what != "class":
        return None
    if issubclass(value, BaseModel):
        return "", ""
    if issubclass(value, nn.Module) and arguments is None:
        return stringify_signature(_unpacked(value.__init__), show_return_annotation=False), ""
    return None


def _unpacked(function: Any) -> inspect.Signature:
    known = inspect.signature(function)
    parameters = []
    for parameter in list(known.parameters.values())[1:]:
        if get_origin(parameter.annotation) is Unpack:
            (options,) = get_args(parameter.annotation)
            for name, kind in options.__annotations__.items():
                inner = get_args(kind)[0] if get_origin(kind) in (Required, NotRequired) else kind
                parameters.append(inspect.Parameter(name, KEYWORD, annotation=inner))
        else:
            parameters.append(parameter)
    return inspect.Signature(parameters)


def plain_bases(app: Sphinx, name: str, value: Any, options: Any, bases: list[Any]) -> None:
    """Show of the bases those that say something to a reader."""
    if isinstance(value, type) and issubclass(value, BaseModel):
        bases[:] = [base for base in bases if base is not BaseModel]


@cache
def documented_as(target: str) -> str | None:
    """Return the name under which the pages show what a name of the package means."""
    parts = target.split(".")
    for count in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:count]))
            for part in parts[count:]:
                value = getattr(value, part)
        except (ImportError, AttributeError):
            continue
        home = getattr(value, "__module__", None)
        inner = getattr(value, "__qualname__", None)
        if home is None or inner is None:
            return None
        first = inner.partition(".")[0]
        offered = getattr(iddpm, first, None) if first in iddpm.__all__ else None
        same = offered is not None and getattr(offered, "__module__", None) == home
        return f"iddpm.{inner}" if same else f"{home}.{inner}"
    return None


def find(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.TextElement
) -> nodes.Element | None:
    """Resolve a name that the pages show under another one."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    objects = env.domains.python_domain.objects
    shown = documented_as(target) if target.startswith("iddpm.") else None
    alike = [
        name for name, entry in objects.items() if name.endswith(f".{target}") and not entry.aliased
    ]
    offered = [name for name in alike if name == f"iddpm.{target}"]
    found = offered or alike
    entry = objects.get(shown or (found[0] if len(found) == 1 else ""))
    return _link(app, node, text, entry.docname, entry.node_id) if entry is not None else None


def _link(
    app: Sphinx, node: pending_xref, text: nodes.TextElement, page: str, anchor: str
) -> nodes.Element:
    uri = app.builder.get_relative_uri(node["refdoc"], page)
    link = nodes.reference("", "", internal=True, refuri=f"{uri}#{anchor}")
    link += text
    return link


def setup(app: Sphinx) -> None:
    """Connect all of them to Sphinx."""
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    app.connect("autodoc-process-docstring", escape, priority=400)
    app.connect("autodoc-process-docstring", restore, priority=600)
    app.connect("autodoc-process-docstring", join_names, priority=600)
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-bases", plain_bases)
    app.connect("missing-reference", find, priority=300)
