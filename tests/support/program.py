"""The program as a script calls it."""

from uipad_cli.cli import main

# settings of a run that is small, and need not see anything
SMALL = ["backbone=tiny-random", "framing.resize=56", "framing.crop=56", "precision=fp32"]


def call(capsys, *arguments):
    """Exit code, stdout, stderr; no traceback is ever shown."""
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    return code, told.out, told.err
