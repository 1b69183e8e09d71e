"""Plausible wrong answers to every exercise, each with words from the hint that it should get.

One module for each notebook, and in it ``WRONG``: the check's name, and pairs of an answer and a part of the
hint. A check that takes two answers has a tuple of them. The right answers are in notebooks/solutions.
"""
