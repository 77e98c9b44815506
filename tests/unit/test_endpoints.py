"""What counts as one endpoint."""

import pytest

from libs.documents.deliveries import endpoint_of


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("https://Shop.example/hook?a=1", "shop.example"),
        ("http://127.0.0.1:8080/", "127.0.0.1:8080"),
        ("http://[", "http://["),
        ("nonsense", "nonsense"),
    ],
)
def test_an_endpoint_is_what_a_url_connects_to(url: str, endpoint: str) -> None:
    """Host and port, whatever the path; a URL without them stands for itself."""
    assert endpoint_of(url) == endpoint
