"""Nothing is needed of it."""

annotations = None
