"""The program as a script calls it."""

from uipad_cli.cli import main


def call(capsys, *arguments):
    """Exit code, stdout, stderr; no traceback is ever shown."""
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    return code, told.out, told.err
