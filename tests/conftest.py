"""What the default run leaves out, and how widely it draws: ``make test-all`` runs and draws everything.

A test marked ``slow`` is one more instance of what another one tests in small: more drawn cases, more
settings, a whole script. ``tests/test_suite.py`` sees to it that nothing else is left out.
"""

import pytest
from hypothesis import settings
from suite import ALL_TESTS, Collected

# pytest --hypothesis-profile=thorough, as make test-all has it
settings.register_profile("quick", print_blob=False)
settings.register_profile("thorough", settings.get_profile("quick"))
settings.load_profile("quick")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items) -> None:
    """Note what there is before ``-m`` takes away what is slow."""
    config.stash[ALL_TESTS] = [
        Collected(item.nodeid, item.function.__doc__ or "", item.get_closest_marker("slow") is not None)
        for item in items
        if isinstance(item, pytest.Function)
    ]
