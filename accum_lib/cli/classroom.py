"""``accum class``: what a teacher needs besides the notebooks."""

import argparse
import pathlib
from typing import Any

DESCRIPTION = """\
accum class student            student.zip: the course without solutions, tests and tools
accum class collect FOLDER     class.csv and class.html from the progress files that were handed in
accum class quiz 00 01 end     the notebooks' questions, and the end quiz of twelve over all lessons, for
                               Moodle (quiz.gift) and Canvas (quiz.zip, QTI 2.1)
accum class scorm 00 01        lessons of the built site as SCORM 1.2 packages: lesson_00.zip, lesson_01.zip

Everything stays on this machine; progress files are for conversations, not for grades: anybody can edit one.
"""
END = "end"  # the end quiz


def add_to(commands: Any) -> None:
    """Add the commands to the parser."""
    parser = commands.add_parser(
        "class", help="for teachers: a student's copy, a table, quizzes", description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    kinds = parser.add_subparsers(required=True, metavar="WHAT")
    student = kinds.add_parser("student", help="the course as a student gets it, as a zip file")
    student.add_argument("--out", type=pathlib.Path, default=pathlib.Path("student.zip"))
    student.set_defaults(run=run_student)
    collect = kinds.add_parser("collect", help="a table of the progress files in a folder")
    collect.add_argument("folder", type=pathlib.Path)
    collect.add_argument("--out", type=pathlib.Path, default=pathlib.Path(), help="a folder; this one")
    collect.set_defaults(run=run_collect)
    quiz = kinds.add_parser("quiz", help="the notebooks' questions and the end quiz as GIFT and QTI 2.1")
    quiz.add_argument("notebooks", nargs="+", metavar="NN", help="their numbers, such as 00 01; end; or: all")
    quiz.add_argument("--out", type=pathlib.Path, default=pathlib.Path(), help="a folder; this one")
    quiz.set_defaults(run=run_quiz)
    scorm = kinds.add_parser("scorm", help="lessons as SCORM 1.2 packages, from their pages")
    scorm.add_argument("notebooks", nargs="+", metavar="NN", help="their numbers, such as 00 01")
    scorm.add_argument("--site", type=pathlib.Path, default=pathlib.Path("build/site"), help="the built site")
    scorm.add_argument("--out", type=pathlib.Path, default=pathlib.Path(), help="a folder; this one")
    scorm.set_defaults(run=run_scorm)


def run_student(arguments: argparse.Namespace) -> int:
    """Write the zip file; 0."""
    from accum_lib.classroom.student import write
    from accum_lib.lessons.kit.progress import ROOT

    count = write(ROOT, arguments.out)
    print(f"wrote {arguments.out}: {count} files, {arguments.out.stat().st_size / 1e6:.1f} MB")
    return 0


def run_collect(arguments: argparse.Namespace) -> int:
    """Write the table; 1 if a file had to be left out."""
    from accum_lib.classroom.collect import collect, write_csv, write_page
    from accum_lib.classroom.end_quiz import NAMES
    from accum_lib.lessons.kit.contents import lessons
    from accum_lib.lessons.kit.progress import ROOT

    known = lessons(ROOT / "notebooks")
    found = collect(
        arguments.folder,
        [*(name for lesson in known for name in lesson.predictions), *NAMES],
        [name for lesson in known for name in lesson.exercises],
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_csv(found, arguments.out / "class.csv")
    write_page(found, arguments.out / "class.html")
    where = f"{arguments.out / 'class.csv'} and {arguments.out / 'class.html'}"
    print(f"students: {len(found.progress)}, in {where}")
    for fault in found.faults:
        print(f"left out: {fault}")
    return 1 if found.faults else 0


def run_quiz(arguments: argparse.Namespace) -> int:
    """Run the notebooks up to their last question, and write what they ask; 0."""
    from accum_lib.classroom.end_quiz import end_quiz
    from accum_lib.classroom.quizzes import gift, questions, write_qti
    from accum_lib.lessons.kit.progress import ROOT
    from accum_lib.words import folder_for, language

    folder = folder_for(language(), ROOT / "notebooks")
    there = {path.name[:2]: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}
    wanted = [*there, END] if arguments.notebooks == ["all"] else arguments.notebooks
    for number in wanted:
        if number not in there and number != END:
            known = ", ".join([*there, END])
            raise ValueError(f"there is no notebook {number!r} in {folder}; there are {known}")
    found = []
    for number in wanted:
        if number == END:
            found += end_quiz()
            continue
        print(f"running {there[number].name} up to its last question ...", flush=True)
        found += questions(there[number])
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "quiz.gift").write_text(gift(found, "Gradient accumulation"), encoding="utf-8")
    write_qti(found, "Gradient accumulation", arguments.out / "quiz.zip")
    print(f"questions: {len(found)}, in {arguments.out / 'quiz.gift'} and {arguments.out / 'quiz.zip'}")
    return 0


def run_scorm(arguments: argparse.Namespace) -> int:
    """Write a package for each lesson; 0."""
    from accum_lib.classroom.scorm import write
    from accum_lib.words import folder_for, language

    folder = folder_for(language(), arguments.site)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for number in arguments.notebooks:
        page = next(iter(sorted(folder.glob(f"{number}_*.html"))), folder / f"{number}_*.html")
        out = arguments.out / f"lesson_{number}.zip"
        write(page, out)
        print(f"wrote {out}: {out.stat().st_size / 1e6:.1f} MB, from {page}")
    return 0
