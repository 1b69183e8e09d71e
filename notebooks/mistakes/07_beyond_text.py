"""Wrong answers to the exercises of notebook 07."""

WRONG = {
    "check_momentum": [
        (lambda big, steps: ..., "returns nothing yet"),
        (lambda big, steps: big, "forget more than one does"),
        (lambda big, steps: big / steps, "only about"),
        (lambda big, steps: big ** (1 / steps), "not the momentum but what is left"),
        (lambda big, steps: (1 - big) ** (1 / steps), "the momentum is the rest"),
        (lambda big, steps: big / steps**0.5, "(1 - m)^K"),
        (lambda big: big, "raised TypeError"),
    ],
    "check_torch_mean": [
        (lambda lengths: ..., "returns nothing yet"),
        (lambda lengths: [1 / sum(lengths)] * len(lengths), "mean over all symbols"),
        (lambda lengths: [1 / len(lengths)] * len(lengths), "mean over utterances"),
        (lambda lengths: [1 / n for n in lengths], "up to a factor"),
        (lambda lengths: [1.0], "one weight for each"),
        (lambda lengths: [n / sum(lengths) for n in lengths], "Divide by what"),
        (lambda lengths: lengths / 2, "raised TypeError"),
    ],
    "check_alignable": [
        (lambda frames, target: ..., "returns nothing yet"),
        (lambda frames, target: frames >= len(target), "between two equal symbols"),
        (lambda frames, target: frames > len(target), "no blank is needed but"),
        (
            lambda frames, target: frames >= 2 * len(target) - 1,
            "no blank is needed but",
        ),
        (lambda frames, target: frames == len(target), "do no harm"),
        (
            lambda frames, target: frames >= 2 * len(target) - len(set(target)),
            "if they are neighbours",
        ),
        (lambda frames, target: True, "each symbol needs a frame"),
        (lambda frames: True, "raised TypeError"),
    ],
}
