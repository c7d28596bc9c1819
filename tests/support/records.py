"""Records of runs and exports, edited as if a uipad had written them so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from uipad_cli.engine.sealed import SEAL, write_sealed


def change_record(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit a checkpoint.json or export.json, and seal it anew."""
    content = json.loads(path.read_text())
    del content[SEAL]
    edit(content)
    write_sealed(path, content)
