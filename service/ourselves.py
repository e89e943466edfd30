"""How firedamp starts itself in another process."""

from __future__ import annotations

import sys
from typing import Final

COMMAND: Final = (sys.executable, "-P", "-m", "firedamp.service.cli")
"""-P: nothing is imported from the folder that it runs in. That may be a repository, whose modules are not ours."""
