"""``accum predict``: labels and probabilities of new texts, from a model that ``accum train`` has written."""

import argparse
import csv
import sys
from typing import TYPE_CHECKING, Any

from accum_lib.words import _

if TYPE_CHECKING:
    from accum_lib.training.data import Example

DESCRIPTION = """\
Reads texts and writes a CSV: the label, and the probability of each class.

  accum predict runs/first/model --data mine.csv > labels.csv
  echo "Compute the mean along an axis." | accum predict runs/first/model
"""


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "predict", help="label new texts with a trained model", description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("model", metavar="FOLDER", help="of the trained model")
    parser.add_argument("--data", metavar="FILE", help="a .csv, .tsv, .jsonl or .parquet (standard input)")
    parser.add_argument("--text-column", default="text", metavar="NAME", help="of the file (text)")
    parser.add_argument("--pair-column", metavar="NAME", help="of the file, for second texts (none)")
    parser.add_argument("--max-tokens", type=int, metavar="T", help="truncate texts to T tokens (as trained)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the table; 0."""
    import transformers

    from accum_lib.training.predicting import load_classifier, probabilities

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if arguments.max_tokens is not None and arguments.max_tokens < 5:
        raise ValueError(
            _(
                "{name} must be {least} or more; got {value}",
                name="--max-tokens",
                least=5,
                value=arguments.max_tokens,
            )
        )
    model, tokenizer, labels = load_classifier(arguments.model)
    longest = arguments.max_tokens or tokenizer.model_max_length
    found = probabilities(model, tokenizer, _examples(arguments), longest)
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["label", *labels])
    for row in found.tolist():
        table.writerow([labels[row.index(max(row))], *(f"{p:.6g}" for p in row)])
    return 0


def _examples(arguments: argparse.Namespace) -> "list[Example]":
    from accum_lib.training.data import Example
    from accum_lib.training.data.rows import read_table

    if arguments.data is None:
        texts: list[tuple[Any, Any]] = [(line.rstrip("\n"), None) for line in sys.stdin]
        where = _("standard input")
    else:
        table, where = read_table(arguments.data), str(arguments.data)
        text, pair = (name and table.demand(name) for name in (arguments.text_column, arguments.pair_column))
        texts = [(row.values[text], row.values[pair] if pair else None) for row in table.rows]
    if not texts:
        raise ValueError(_("there is no text in {where}: give one a line, or a file with rows", where=where))
    return [Example(str(one or ""), None if two is None else str(two), None) for one, two in texts]
