"""Which tests the default run leaves out, and whether it may."""

import re
from collections.abc import Iterable
from typing import NamedTuple

import pytest


class Collected(NamedTuple):
    """A test, before the default run leaves out what is slow."""

    nodeid: str
    doc: str
    slow: bool

    @property
    def function(self) -> str:
        """The file and the function, without what is drawn from a list of parameters."""
        return self.nodeid.partition("[")[0]


ALL_TESTS = pytest.StashKey[list[Collected]]()

# How this suite names a test that sees a check fail on what is deliberately wrong.
TWIN_NAMES = re.compile(
    r"notice|wrong|seen\b|seen_|unseen|would_be|can_fail|comparison_(fails|can)|fails_(for|on)|fail_too|"
    r"is_not$|told_apart|forg[eo]t|broken_|lost|leak_check|stands_out|breaks"
)
TWIN_DOCS = re.compile(r"deliberately wrong|can fail|wrong ones?\b", re.IGNORECASE)


def is_twin(test: Collected) -> bool:
    """Whether it shows that a check can fail. Rather one too many: such a test must run by default."""
    name = test.function.rpartition("::")[2]
    return bool(TWIN_NAMES.search(name) or TWIN_DOCS.search(test.doc))


def hidden_twins(tests: Iterable[Collected]) -> list[str]:
    """The negative twins of which the default run has no instance."""
    tests = list(tests)
    by_default = {test.function for test in tests if not test.slow}
    return [t.nodeid for t in tests if t.slow and is_twin(t) and t.function not in by_default]


def never_run(tests: Iterable[Collected], done_in_small: Iterable[str]) -> list[str]:
    """Functions of which the default run has no instance, and that no other test does in small."""
    tests = list(tests)
    by_default = {test.function for test in tests if not test.slow}
    return sorted({test.function for test in tests} - by_default - set(done_in_small))
