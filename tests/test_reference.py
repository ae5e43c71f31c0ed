"""The references of settings and commands, which are generated, describe all of them."""

import typer

from docs._site.commands import command_page, commands
from docs._site.settings import settings, settings_page
from iddpm.cli.main import app
from iddpm.config import Config
from iddpm.config.validation_message import _all_keys

KINDS = {"diffusion.loss.kind", "diffusion.loss.weighting.kind"}
"""The setting above each lists them."""


def test_every_setting_is_described():
    found = {setting.name: setting for setting in settings()}
    leaves = {key for key in _all_keys(Config) if f"{key}." not in " ".join(_all_keys(Config))}
    assert leaves - KINDS <= set(found)
    assert [name for name, setting in found.items() if not setting.text] == []
    assert [name for name, setting in found.items() if not setting.value] == []


def test_values_bounds_and_defaults_are_those_of_the_schema():
    found = {setting.name: setting for setting in settings()}
    assert found["data.held_out"][1:3] == ("number from 0 below 1", "`0.05`")
    assert found["diffusion.schedule"][1:3] == ("`linear`, `cosine`, `log_snr`", "`cosine`")
    assert found["training.ema_rates"][1:3] == ("list of: number from 0 below 1", "")
    assert found["training.betas"][2] == "`[0.9, 0.999]`"
    assert found["diffusion.loss.vb_weight"].text.startswith("With `hybrid`: ")


def test_every_command_and_option_is_described():
    every = list(commands(typer.main.get_command(app)))
    assert {"iddpm train", "iddpm data inspect"} <= {name for name, _ in every}
    lacking = [(n, p.name) for n, command in every for p in command.params if not p.help]
    assert lacking == []
    assert all(command.help for _, command in every)


def test_rows_have_as_many_cells_as_their_tables():
    for page in (settings_page(), command_page()):
        width = 0
        for line in page.splitlines():
            cells = line.replace("\\|", "").count("|")
            if line.startswith("|---"):
                width = cells
            elif line.startswith("|") and width:
                assert cells == width, line
            elif not line.startswith("|"):
                width = 0
