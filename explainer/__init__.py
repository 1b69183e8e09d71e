"""The visual explainer: one HTML page, built from ``src`` and from numbers that the library computes."""
