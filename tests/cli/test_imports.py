"""What a plan's own process leaves out changes nothing that it says."""

import subprocess
import sys

import pytest
from torch.fx.experimental import symbolic_shapes

from accum_lib.__main__ import main
from accum_lib.cli.imports import COMPILER, SYMBOLS, Later

LOADED = """
import sys
from accum_lib.__main__ import main
main()
heavy = ("sympy.core", "scipy", "accelerate", "torch._dynamo.convert_frame", "torch.distributed.tensor")
print([name for name in heavy if sys.modules.get(name)], file=sys.stderr)
import torch
torch._dynamo.reset()  # whoever does need the compiler gets it
print(torch._dynamo.config.__name__, "torch._dynamo.convert_frame" in sys.modules, file=sys.stderr)
"""
PLAN = [
    "plan",
    "--model",
    "distilbert",
    "--gpu",
    "T4",
    "--batch",
    "8",
    "--tokens",
    "16",
    "--optimizer",
    "adafactor",
]


def test_what_stands_for_a_module_knows_a_few_names_and_makes_way_for_any_other(monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    later = Later("colorsys", ONE_THIRD="known")
    monkeypatch.setitem(sys.modules, "colorsys", later)
    assert later.ONE_THIRD == "known"
    assert sys.modules["colorsys"] is later
    assert later.rgb_to_hsv(0, 0, 0) == (0, 0, 0)
    assert later.ONE_SIXTH == 1 / 6
    assert sys.modules["colorsys"] is not later
    with pytest.raises(AttributeError):
        _ = later.no_such_name


def test_submodules_of_a_package_that_is_left_out_can_still_be_had(monkeypatch) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "xml"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "xml", Later("xml"))
    import xml.dom as dom

    assert dom.Node.ELEMENT_NODE == 1


TRUTHS, NUMBERS = [(True,), (False,)], [(7,), (0,)]
PAIRS = [(True, True), (True, False), (False, False)]
SHAPES = [(2, 2), (1, 2), ((1, 2), [1, 2]), ((1, 2), (1, 3)), ((1,), (1, 1))]
SAY = {
    "sym_and": PAIRS, "sym_or": PAIRS, "sym_eq": SHAPES, "free_unbacked_symbols": NUMBERS,
    "has_guarding_hint": NUMBERS, "guarding_hint_or_throw": NUMBERS, "is_nested_int": NUMBERS,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", SYMBOLS)
def test_of_plain_numbers_they_say_what_pytorch_says(name) -> None:
    real, cases = getattr(symbolic_shapes, name), SAY.get(name, TRUTHS)
    assert [SYMBOLS[name](*case) for case in cases] == [real(*case) for case in cases]


def test_what_asks_the_compiler_to_stay_away_is_left_as_it_is() -> None:
    assert all(decorate(len) is len for decorate in COMPILER.values())
    assert all(decorate(reason="none")(len) is len for decorate in COMPILER.values())


@pytest.mark.slow
def test_a_plan_from_a_process_of_its_own_is_the_same_and_loads_none_of_it(capsys) -> None:
    main(PLAN)
    done = subprocess.run([sys.executable, "-c", LOADED, *PLAN], check=False, capture_output=True, text=True)
    assert done.stdout == capsys.readouterr().out
    assert done.stderr.splitlines()[-2:] == ["[]", "torch._dynamo.config True"]
