"""No function, argument list or file grows past what can be read at once; exceptions are said."""

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "iddpm"
FILE, FUNCTION, ARGUMENTS = 350, 80, 7
"""Lines of a file; lines of a function without its docstring; arguments without self."""
PUBLIC = {
    "diffusion/denoiser.py:Denoiser.__init__",
    "diffusion/losses.py:hybrid",
    "diffusion/losses.py:simple",
    "networks/unet.py:UNet.__init__",
    "runs/run.py:Run.restore",
    "runs/run.py:Run.sample",
    "runs/run.py:Run.sample_batches",
    "runs/run.py:Run.upscale",
    "runs/run.py:Run.upscale_mean",
    "sampling/editing.py:inpaint",
    "sampling/sampler_loop.py:sample",
    "sampling/sampler_loop.py:trajectory",
    "tasks/distill.py:distill",
    "tasks/edit.py:edit",
    "tasks/edit.py:inpaint",
    "tasks/edit.py:interpolate",
    "tasks/evaluate.py:evaluate",
    "tasks/likelihood.py:likelihood",
    "tasks/train.py:train",
    "tasks/restore.py:restore",
    "tasks/upscale.py:upscale",
}
"""Called by users, by keywords that stay; within, what travels together is one value."""
BUILT = {
    "training/distillation/consistency.py:consistency_terms",  # and the losses that call it
    "training/distillation/consistency_distillation.py:consistency_distillation",
    "training/distillation/consistency_tuning.py:consistency_tuning",
    "training/distillation/continuous.py:continuous",
    "training/distillation/mid_training.py:mid_training",
    "networks/super_resolution.py:SuperResUNet.features",  # the kinds of conditioning
    "networks/super_resolution.py:SuperResUNet.forward",
    "networks/unet.py:UNet.features",
    "networks/unet.py:UNet.forward",
    "networks/blocks.py:ResBlock.__init__",  # the arguments of the published class, and ours
    "networks/trunk.py:Trunk.__init__",  # where the networks' arguments have their defaults
}
OPENED = {
    "data/batches.py:Batches.__init__",
    "data/sources/arrays.py:ArraySource.__init__",
    "data/sources/open.py:open_source",
}
"""Each argument is a setting of the data."""
MEASURED = {
    "diffusion/losses.py:_mse",
    "evaluation/bound_terms.py:terms_at",
    "evaluation/bound_terms.py:whole_bounds",
    "tasks/samples.py:draw_samples",
}
"""To be joined where the likelihood and the loss are next worked on."""
MANY_ARGUMENTS = PUBLIC | BUILT | OPENED | MEASURED


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
    assert long == set()


def test_functions_can_be_read_at_once() -> None:
    long = {name for name, function in functions() if lines(function) > FUNCTION}
    assert long == set()


def test_arguments_that_travel_together_are_one_value() -> None:
    many = {name for name, function in functions() if arguments(function) > ARGUMENTS}
    assert many == MANY_ARGUMENTS
