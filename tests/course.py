"""The lessons in the order of the course, and what each asks of a reader."""

import importlib
import inspect

from accum_lib.lessons.kit.contents import TOPICS

NAMES = [
    "three_descents", "equivalence", "variance", "memory", "when_it_breaks", "roberta", "beyond_text",
    "distributed", "choose_k", "capstone", "two_claims",
]  # fmt: skip
# The topic under which progress is kept, and the module with its questions.
QUESTIONS = {
    topic: importlib.import_module(f"accum_lib.lessons.{name}.questions")
    for name, topic in zip(NAMES, dict.fromkeys(TOPICS.values()), strict=True)
}
EXPLORERS = [importlib.import_module(f"accum_lib.lessons.{name}.explorer") for name in NAMES]
CHECKS = {
    name: check
    for lesson in NAMES
    for name, check in inspect.getmembers(importlib.import_module(f"accum_lib.lessons.{lesson}.exercises"))
    if name.startswith("check_") and name != "check_case"
}
