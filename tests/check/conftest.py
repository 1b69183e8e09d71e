"""Prints what the checker called each loop, at the end of the tests."""

from collections import Counter

import pytest

CONFUSION = pytest.StashKey[Counter]()


@pytest.fixture(scope="session")
def confusion(pytestconfig) -> Counter:
    """Counts (what it was, what the checker said)."""
    return pytestconfig.stash.setdefault(CONFUSION, Counter())


def pytest_terminal_summary(terminalreporter, config) -> None:
    counts = config.stash.get(CONFUSION, Counter())
    if not counts:
        return
    terminalreporter.section("what the checker called each loop")
    for was in sorted({was for was, _ in counts}):
        said = {said: n for (w, said), n in counts.items() if w == was}
        line = ", ".join(f"{name or 'equal'} {n} times" for name, n in sorted(said.items()))
        terminalreporter.write_line(f"{was:28} {line}")
