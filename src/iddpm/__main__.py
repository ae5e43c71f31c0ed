"""``python -m iddpm``: the form that torchrun starts."""

from iddpm.cli.main import main

main()
