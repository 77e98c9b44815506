import os
from pathlib import Path

import pytest


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A named pipe, which lets a test wait for a task without sleeping."""
    path = tmp_path / "told"
    os.mkfifo(path)
    return path
