"""Records of runs and exports as a stranger could write them: whatever they hold, the seal is right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from uipad_cli.engine.sealed import SEAL


def forge(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit a checkpoint.json or export.json, unsealed or not, and seal it; NaN and half letters are written too."""
    content = json.loads(path.read_text())
    content.pop(SEAL, None)
    edit(content)
    body = json.dumps(content, indent=2).removesuffix("\n}").encode()
    path.write_bytes(body + f',\n  "{SEAL}": "{hashlib.sha256(body).hexdigest()}"\n}}\n'.encode())
