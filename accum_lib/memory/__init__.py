"""Predict the memory of an update without making it: traces, every M and K, a planner, real measurements.

Start with ``prediction.predict``, ``planner.plan`` and ``guard.guard``; ``storages.py`` is the heart of it.
"""
