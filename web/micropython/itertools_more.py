"""What Python's ``itertools`` has and MicroPython's lacks."""

from itertools import *  # noqa: F403


def pairwise(values):
    before = None
    for place, value in enumerate(values):
        if place:
            yield before, value
        before = value


def groupby(values, key=None):
    groups = []
    for value in values:
        mark = key(value) if key else value
        if groups and groups[-1][0] == mark:
            groups[-1][1].append(value)
        else:
            groups.append((mark, [value]))
    return iter(groups)
