"""``python -m iddpm``: the form that torchrun starts."""

from iddpm.cli import main

main()
