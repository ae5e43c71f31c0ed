"""What is printed."""

from iddpm.runtime.console import open_console


def test_control_characters_of_names_do_not_reach_the_terminal(capsys):
    open_console().print("class \x1b[31mred\x9b\x07 [b] is\nthere", markup=False)
    assert capsys.readouterr().out == "class \\x1b[31mred\\x9b\\x07 [b] is\nthere\n"
