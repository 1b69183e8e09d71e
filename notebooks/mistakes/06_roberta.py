"""Wrong answers to the exercises of notebook 06."""

from torch.nn.functional import cross_entropy


def mean(model, batch):
    found = model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
    ).logits
    return cross_entropy(found.flatten(0, 1), batch["labels"].flatten())


def hidden(batch):
    return (batch["labels"] != -100).sum()


def total(model, batch):
    return mean(model, batch) * hidden(batch)


WRONG = {
    "check_mlm_loss": [
        ((lambda model, batch: ..., lambda batch: ...), "nothing yet"),
        ((mean, hidden), "is a mean"),
        (
            (lambda model, batch: 2 * total(model, batch), hidden),
            "are labels of -100 left out",
        ),
        ((total, lambda batch: len(batch["labels"])), "how many texts"),
        ((total, lambda batch: batch["labels"].numel()), "counts padding"),
        (
            (total, lambda batch: int(batch["attention_mask"].sum())),
            "all tokens, hidden or not",
        ),
        ((total, lambda batch: 1), "labels that are not -100"),
        ((lambda model, batch: model(batch).no_such_thing, hidden), "raised"),
    ],
    "check_warmup_updates": [
        (lambda *_: ..., "nothing yet"),
        (lambda n, m, k, e, p: int(p * e * -(-n // m)), "micro-batches"),
        (lambda n, m, k, e, p: int(p * e * (n // (m * k))), "is short"),
        (
            lambda n, m, k, e, p: int(p * (e * n // (m * k))),
            "No window spans two epochs",
        ),
        (lambda n, m, k, e, p: int(p * -(-n // (m * k))), "one epoch"),
        (lambda n, m, k, e, p: 7, "How many updates"),
        (lambda n: 1, "raised"),
    ],
}
