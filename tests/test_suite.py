"""What the default run leaves out is more of the same: no negative twin, and never all of a test."""

import subprocess
import sys

from suite import ALL_TESTS, Collected, hidden_twins, is_twin, never_run

# Functions that run in make test-all alone, and the test that does the same in small in every run.
PAIRS = [
    (
        "check/frameworks/test_heads.py",
        "test_twenty_drawn_rows_are_measured_again",
        "test_drawn_rows_of_the_table_are_measured_again",
    ),
    (
        "check/frameworks/test_apart.py",
        "test_in_its_environment_a_framework_does_what_the_stored_table_says",
        "test_an_adapter_gets_the_case_and_its_answer_is_a_row",
    ),
    (
        "cli/test_imports.py",
        "test_a_plan_from_a_process_of_its_own_is_the_same_and_loads_none_of_it",
        "test_what_stands_for_a_module_knows_a_few_names_and_makes_way_for_any_other",
    ),
    (
        "training/saving/test_kills.py",
        "test_fifty_kills_leave_no_trace",
        "test_kills_at_places_leave_no_trace",
    ),
    (
        "browser/test_exercises_in_page.py",
        "test_two_slips_in_a_solution_are_judged_as_in_the_notebook",
        "test_a_slip_in_a_solution_is_judged_as_in_the_notebook",
    ),
    (
        "browser/test_calculator.py",
        "test_so_is_every_number_of_the_sites_models",
        "test_every_number_is_the_planners",
    ),
    ("gpu/test_roberta_lab.py", "test_the_whole_script_on_a_cpu", "test_the_quick_parts_of_the_script"),
    (
        "packaging/test_wheel.py",
        "test_the_wheel_works_in_a_fresh_environment",
        "test_an_installation_leaves_nothing_behind_in_the_checkout",
    ),
    ("gpu/test_memory_grid.py", "test_the_whole_script_on_a_cpu", "test_the_script_measures_one_cell"),
]
GALLERY = "tests/browser/test_gallery.py"
IN_SMALL = {f"tests/{file}::{large}": f"tests/{file}::{small}" for file, large, small in PAIRS} | {
    f"tests/browser/{large}": f"{GALLERY}::{small}"
    for large, small in (
        (
            "test_notebooks.py::test_every_control_works_with_the_keyboard_alone",
            "test_every_control_works_with_the_keyboard_alone",
        ),
        (
            "test_notebooks.py::test_every_control_works_with_the_mouse",
            "test_every_control_works_with_the_mouse",
        ),
        (
            "test_translated.py::test_a_prediction_is_answered_in_it",
            "test_wider_words_fit_and_no_english_is_left",
        ),
        (
            "test_translated.py::test_every_control_works_and_nothing_is_cut_off",
            "test_wider_words_fit_and_no_english_is_left",
        ),
        (
            "test_translated.py::test_it_runs_and_its_explorers_speak_it",
            "test_wider_words_fit_and_no_english_is_left",
        ),
    )
}


def test_every_negative_twin_is_in_the_default_run(pytestconfig) -> None:
    assert hidden_twins(pytestconfig.stash[ALL_TESTS]) == []


def test_the_default_run_has_an_instance_of_every_test(pytestconfig) -> None:
    assert never_run(pytestconfig.stash[ALL_TESTS], IN_SMALL) == []


def test_what_is_slow_has_a_small_one_that_is_not(pytestconfig) -> None:
    tests = pytestconfig.stash[ALL_TESTS]
    files = {test.nodeid.partition("::")[0] for test in tests}
    slow = {test.function for test in tests if test.slow}
    quick = {test.function for test in tests if not test.slow}
    for large, small in IN_SMALL.items():
        if large.partition("::")[0] in files and small.partition("::")[0] in files:
            assert large in slow, f"{large} is slow no more: take it out of IN_SMALL"
            assert small in quick, f"{small} is not in the default run"


def test_a_twin_that_is_left_out_would_be_noticed() -> None:
    tests = [
        Collected("tests/test_a.py::test_sums_agree[1]", "", False),
        Collected("tests/test_a.py::test_sums_agree[2]", "", True),
        Collected("tests/test_a.py::test_a_lost_term_is_noticed", "", True),
        Collected("tests/test_a.py::test_means[3]", "The deliberately wrong one: a mean of means.", True),
        Collected("tests/test_a.py::test_the_whole_script", "", True),
    ]
    assert hidden_twins(tests) == [tests[2].nodeid, tests[3].nodeid]
    assert never_run(tests[:2], ()) == []
    assert never_run(tests[:2] + tests[4:], ()) == ["tests/test_a.py::test_the_whole_script"]
    assert never_run(tests[:2] + tests[4:], ["tests/test_a.py::test_the_whole_script"]) == []


def test_the_twins_of_this_suite_are_known_by_name_or_docstring(pytestconfig) -> None:
    """Of the tests beside this one, these are twins and those are not."""
    twins = [
        "test_a_wrong_solution_would_be_noticed", "test_that_comparison_fails_on_a_wrong_model",
        "test_a_mean_of_means_is_seen", "test_the_equal_budgets_can_fail_too", "test_a_wrong_law_is_not",
        "test_without_the_checksums_the_damage_would_go_unseen", "test_whatever_is_forgotten_is_seen",
        "test_without_the_look_at_gradients_the_parameters_would_be_lost",
    ]  # fmt: skip
    assert [name for name in twins if not is_twin(Collected(f"tests/test_a.py::{name}[x]", "", False))] == []
    others = ["test_the_whole_script_on_a_cpu", "test_the_prediction_is_what_the_profiler_measures"]
    assert [name for name in others if is_twin(Collected(f"tests/test_a.py::{name}", "", False))] == []


def test_slow_tests_are_left_out_unless_they_are_asked_for(tmp_path) -> None:
    """By pytest itself, with this project's options, on a file with one slow twin."""
    root = __file__.rpartition("/tests/")[0]
    (tmp_path / "test_made.py").write_text(
        "import pytest\n\n@pytest.mark.slow\ndef test_a_fault_is_noticed(): ...\n\ndef test_quick(): ...\n"
    )
    found = []
    for more in ([], ["-m", "slow or not slow"]):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only", *more]
        where = ["-c", f"{root}/pyproject.toml", "--rootdir", str(tmp_path), str(tmp_path)]
        found.append(subprocess.run(command + where, capture_output=True, text=True, cwd=tmp_path).stdout)
    assert "1/2 tests collected (1 deselected)" in found[0]
    assert "2 tests collected" in found[1]
