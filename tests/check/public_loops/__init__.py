"""Loops of public projects, told again in a few lines: the same calls, in the same order, the same factors.

Each says where it is from (owner/repository, and about when) and, by reading it before any run, what is wrong
with it: ``ragged`` where micro-batches count differently many labels, ``even`` where they count alike. An
update that is clipped hides its length, and what is hidden is not expected.

First runs. The checker was mended on the first half until all of it was right. Then the second half ran, once
(the text of eight of its loops had been seen): the verdict was right in 29 of 30, on ragged and on even data,
and all faults were named, and none besides, in 27 of 30. The one wrong verdict was the retelling's own error
(``.item()`` of an int). The other two showed windows that only a later epoch cuts wrongly, and undivided
means under a clip of each. Both are mended since.

A third group and a fourth come from a search of public code for strings such as ``% accum_iter == 0``, taken
as they came, whose sources name no repository. The third (34): every verdict right, all faults and none
besides in 30; two asked for a name that the checker did not know, one showed a short window beside windows
cut wrongly in later epochs, one was told a second time that nothing had moved. After that was mended, the
fourth (30) ran for the first time: 29 right, verdict and faults; one asked for ``num_epoch``.
"""

from . import earlier, first_half, fourth, second_half, third
from .shared import LOOPS, Public

__all__ = ["LOOPS", "Public", "earlier", "first_half", "fourth", "second_half", "third"]
