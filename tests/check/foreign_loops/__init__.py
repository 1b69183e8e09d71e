"""Training loops as strangers write them: two strangers, each without sight of the other's loops."""

from . import one as one
from . import two as two
from .shared import LOOPS as LOOPS
from .shared import Foreign as Foreign
