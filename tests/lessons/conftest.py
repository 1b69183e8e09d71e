"""What several lessons' tests share."""

import pytest

from accum_lib.lessons.kit.grid import LEAN


@pytest.fixture(params=["axes", pytest.param("all", marks=pytest.mark.slow)])
def some_settings(request, monkeypatch) -> None:
    """Explorers compute the settings in which one control is moved; in ``make test-all``, every setting."""
    monkeypatch.setenv(LEAN, "1" if request.param == "axes" else "")
