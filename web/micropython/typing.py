"""Names for annotations, which MicroPython does not look at."""

Any = Callable = Iterable = Iterator = List = Optional = Sequence = Tuple = Union = None
