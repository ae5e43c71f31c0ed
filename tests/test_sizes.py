"""No function, argument list or file grows past what can be read at once; exceptions are said."""

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "iddpm"
FILE, FUNCTION, ARGUMENTS = 350, 80, 7
"""Lines of a file; lines of a function without its docstring; arguments without self."""
LONG_FILES: set[str] = set()
LONG_FUNCTIONS: set[str] = set()
MANY_ARGUMENTS: set[str] = set()


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield every function with its place, ``room/file.py:Class.name``."""
    for path in sorted(SOURCE.rglob("*.py")):
        where = path.relative_to(SOURCE).as_posix()
        stack: list[tuple[ast.AST, str]] = [(ast.parse(path.read_text()), "")]
        while stack:
            node, prefix = stack.pop()
            for child in ast.iter_child_nodes(node):
                name = prefix
                if isinstance(child, ast.ClassDef | ast.FunctionDef):
                    name = f"{prefix}{child.name}."
                if isinstance(child, ast.FunctionDef):
                    yield f"{where}:{name[:-1]}", child
                stack.append((child, name))


def lines(function: ast.FunctionDef) -> int:
    assert function.end_lineno is not None
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return function.end_lineno - function.lineno + 1 - docstring


def arguments(function: ast.FunctionDef) -> int:
    given = function.args
    names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    own = len(names) - (names[:1] in (["self"], ["cls"]))
    return own + (given.vararg is not None) + (given.kwarg is not None)


def test_files_can_be_read_at_once() -> None:
    long = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if len(path.read_text().splitlines()) > FILE
    }
    assert long == LONG_FILES


def test_functions_can_be_read_at_once() -> None:
    long = {name for name, function in functions() if lines(function) > FUNCTION}
    assert long == LONG_FUNCTIONS


def test_arguments_that_travel_together_are_one_value() -> None:
    many = {name for name, function in functions() if arguments(function) > ARGUMENTS}
    assert many == MANY_ARGUMENTS
