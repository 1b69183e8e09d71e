"""The visual explainer: one HTML page, built from ``page`` and from numbers that the library computes."""
