from __future__ import annotations

import pytest

pytest.importorskip("litserve")

from sharcs_pl.config.serve import ServeConfig
from sharcs_pl.server.app import address


@pytest.mark.parametrize(("host", "wanted"), [("127.0.0.1", "http://127.0.0.1:8000"), ("::", "http://[::]:8000")])
def test_an_address(host: str, wanted: str) -> None:
    assert address(ServeConfig(run="r", host=host)) == wanted
