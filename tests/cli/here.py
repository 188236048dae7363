"""Commands in the test's own process: quick, for what needs no process of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from redflow.cli.app import app


@dataclass
class Here:
    """Runs commands and collects what they print."""

    capsys: pytest.CaptureFixture[str]

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run `redflow <arguments>`; exit code, stdout and stderr."""
        with pytest.raises(SystemExit) as end:
            app(list(arguments), prog_name="redflow")
        code = end.value.code
        assert isinstance(code, int)
        return code, *self.capsys.readouterr()

    def refused(self, *arguments: str) -> str:
        """Run a command that must be refused: exit code 2, one line on stderr, no traceback. Returns the line."""
        code, out, err = self.run(*arguments)
        assert (code, out) == (2, ""), out + err
        assert re.fullmatch(r"redflow: .+\n", err), err
        return err
