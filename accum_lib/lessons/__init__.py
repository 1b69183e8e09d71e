"""What a reader touches: a folder for each notebook, and the kit that they share."""

from accum_lib.extras import need

need(__name__, "notebooks")
