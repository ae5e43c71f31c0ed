"""The reference of the command line, from the commands themselves."""

import re
from collections.abc import Iterator
from typing import Any, get_args

import typer

from iddpm.cli.main import app

KINDS = {"int": "whole number", "float": "number", "str": "text", "Path": "path"}
HEAD = """# Command line

`iddpm COMMAND --help` prints the same. Settings of a run (`-s section.name=value`) are listed in
[Settings](settings.md). Every command exits with status 0 when done, 2 after wrong input (one
sentence on standard error says what would work), 1 when a run failed, and 130, 143 or 138 when it
was stopped by SIGINT, SIGTERM or SIGUSR1.
"""


def commands(command: Any, name: str = "iddpm") -> Iterator[tuple[str, Any]]:
    """Yield each command by what is typed, those of groups too."""
    for word, inner in getattr(command, "commands", {}).items():
        if hasattr(inner, "commands"):
            yield from commands(inner, f"{name} {word}")
        else:
            yield f"{name} {word}", inner


def command_page() -> str:
    """Return the page as Markdown."""
    root = typer.main.get_command(app)
    every = list(commands(root))
    lines = [HEAD, "| command | |", "|---|---|"]
    for name, command in every:
        anchor = name.replace(" ", "-").lower()
        lines.append(f"| [`{name}`](#{anchor}) | {_cell(command.help or '')} |")
    for name, command in every:
        lines += ["", *_section(name, command)]
    return "\n".join([*lines, ""])


def _section(name: str, command: Any) -> list[str]:
    context = command.make_context(name, [], resilient_parsing=True)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    lines = [f"## {name}", "", _plain(command.help or ""), "", "```text", usage, "```", ""]
    if command.epilog:
        lines += ["```bash", *_examples(command.epilog), "```", ""]
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    for title, parameters in (("argument", arguments), ("option", options)):
        if parameters:
            lines += [f"| {title} | value | default | |", "|---|---|---|---|"]
            lines += [_row(parameter) for parameter in parameters]
            lines.append("")
    return lines


def _examples(text: str) -> list[str]:
    """Return the command that an epilog shows, in one line."""
    return [" ".join(text.split()).removeprefix("Example: ")]


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = f"`{parameter.metavar or parameter.name}`"
    else:
        name = ", ".join(f"`{o}`" for o in [*parameter.opts, *parameter.secondary_opts])
    help_text, default = _default(parameter)
    return f"| {name} | {_value(parameter)} | {_cell(default)} | {_cell(help_text)} |"


def _default(parameter: Any) -> tuple[str, str]:
    """Return the help without its default, and the default."""
    text = " ".join((parameter.help or "").split())
    written = re.search(r"\s*\[default: ([^\]]*)\]", text)
    if written:
        return text.replace(written[0], ""), written[1]
    if parameter.required:
        return text, "required"
    if parameter.default is None or isinstance(parameter.default, bool):
        return text, ""
    return text, f"`{parameter.default}`"


def _value(parameter: Any) -> str:
    annotation = parameter.type_descriptor.annotation
    if annotation is bool:
        return ""
    if parameter.param_type_name == "option" and parameter.metavar:
        return f"`{parameter.metavar}`"
    kind = (get_args(annotation) or (annotation,))[0]
    words = [KINDS[kind.__name__]]
    words += [f"from {parameter.min:,}"] if parameter.min is not None else []
    words += [f"to {parameter.max:,}"] if parameter.max is not None else []
    several = parameter.multiple or parameter.nargs == -1
    return " ".join([*words, *(["(several)"] if several else [])])


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("``", "`").replace("<", "\\<").replace("*", "\\*")


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|").replace("[", "\\[").replace("]", "\\]")
