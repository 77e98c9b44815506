import subprocess
import sys

import pytest

SCRIPT = """
import logging, structlog
from libs.runtime.logging import configure_logging
from libs.runtime.settings import CommonSettings
configure_logging("test", CommonSettings.model_construct(log_format={format!r}))
structlog.get_logger().info("header.seen", value="caf\\udce9")
logging.getLogger("library").warning("caf\\udce9")
"""


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_what_cannot_be_encoded_is_logged_escaped(log_format: str) -> None:
    """Bytes of a header that are no UTF-8 arrive as lone surrogates; the log line is written all the same."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(format=log_format)], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("caf\\udce9") == 2
