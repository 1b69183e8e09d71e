"""The end quiz: twelve questions over all lessons, on cases that no notebook shows."""

from dataclasses import dataclass

from accum_lib.classroom.quizzes import Question, plain
from accum_lib.words import N_, _, sentences


@dataclass(frozen=True)
class _Asked:
    """In English: a question, its right option and place, and the reason against each other option."""

    name: str
    text: str
    right: str
    why: str
    wrong: dict[str, str]
    at: int


ASKED = (
    _Asked(
        "end.counting",
        N_(
            "An epoch has 103 micro-batches of equal size, and K = 8. How many updates does a right loop "
            "make, and how many micro-batches does the last one average?"
        ),
        N_("13 updates; the last averages 7"),
        N_("103 = 12 · 8 + 7: twelve full windows, and a shorter one, which is an update too."),
        {
            N_("12 updates; the other 7 micro-batches wait for the next epoch"): N_(
                "A remainder that waits in the buffer leaks into the first update of the next epoch."
            ),
            N_("13 updates; the last is divided by 8"): N_(
                "The last window holds 7 micro-batches: divided by 8, its gradient is too short by an eighth."
            ),
            N_("103 updates"): N_("The weights move once for each window, not for each micro-batch."),
        },
        1,
    ),
    _Asked(
        "end.summed",
        N_(
            "A loop adds up the gradients of the mean losses of K = 4 equal micro-batches and divides by "
            "nothing: plain SGD, learning rate 0.1, no clip. At which learning rate does a loop with the "
            "mean take the same path?"
        ),
        N_("0.4"),
        N_("The sum is four times the mean, so the step is that of the mean at four times the rate."),
        {
            N_("0.025"): N_("The sum is the longer gradient: the mean needs the larger rate."),
            N_("0.2"): N_(
                "The square root of 4 is a rule for noise; here the gradient itself is four times as long."
            ),
            N_("at none: the two point in different directions"): N_(
                "Equal micro-batches have equal weights in both; only the length differs."
            ),
        },
        2,
    ),
    _Asked(
        "end.tokens",
        N_(
            "A window has two micro-batches: 30 tokens with a mean loss of 1.0, and 10 tokens with a mean "
            "loss of 3.0. Which loss would one big batch have?"
        ),
        N_("1.5"),
        N_("The sum is 30 · 1.0 + 10 · 3.0 = 60, over 40 tokens."),
        {
            N_("2.0"): N_("That is the mean of means: it counts each token of the short one three times."),
            N_("4.0"): N_("That adds the means; nothing is divided by what it counts."),
        },
        0,
    ),
    _Asked(
        "end.noise_scale",
        N_(
            "The gradient noise scale of a run is about 500 examples, the data set is huge. Which doubling "
            "of B still saves nearly half of the updates?"
        ),
        N_("from 64 to 128"),
        N_("Updates go with 1 + 500 / B: from 8.8 to 4.9, so 44 % fewer."),
        {
            N_("from 1,024 to 2,048"): N_(
                "There the noise is already shorter than the gradient: 1 + 500 / B falls by 16 %."
            ),
            N_("from 8,192 to 16,384"): N_(
                "1 + 500 / B falls by 3 %: twice the examples for nearly nothing."
            ),
            N_("each of them"): N_("Only well below the noise scale does doubling B halve the updates."),
        },
        0,
    ),
    _Asked(
        "end.card",
        N_(
            "22 GB of a card can be used. Weights, gradients and optimizer state take 14 GB, and each "
            "example of a micro-batch takes 1.5 GB more. You want B = 32. Which do you choose?"
        ),
        N_("M = 4, K = 8"),
        N_("14 + 4 · 1.5 = 20 GB: the largest power of two that fits, so the fewest passes."),
        {
            N_("M = 8, K = 4"): N_("14 + 8 · 1.5 = 26 GB does not fit."),
            N_("M = 1, K = 32"): N_("It fits, but makes 32 small passes where 8 do."),
            N_("nothing fits: 32 examples take 62 GB"): N_(
                "In one pass they would. The activations of a window's micro-batches are not there together."
            ),
        },
        1,
    ),
    _Asked(
        "end.floor",
        N_("The same model on a card of which 12 GB can be used. What can make it fit?"),
        N_("a leaner optimizer, or fewer trained weights"),
        N_("Only that makes the 14 GB smaller which do not depend on M."),
        {
            N_("M = 1 and K = 32"): N_(
                "One example still takes 14 + 1.5 GB; K changes nothing about the 14."
            ),
            N_("activation checkpointing"): N_(
                "It saves activations: at most 1.5 GB an example, not the 14."
            ),
        },
        2,
    ),
    _Asked(
        "end.log",
        N_(
            "K = 4, and each epoch ends with a window of one micro-batch. The logged gradient norm is near "
            "2.0, but near 0.5 in the last update of every epoch. The loss curve looks fine. What is wrong?"
        ),
        N_("the last window's loss is divided by 4, though it has one micro-batch"),
        N_("A quarter of the norm, always there: the divisor is K, not the length of the window."),
        {
            N_("the buffer is not cleared after an update"): N_(
                "Then norms would grow from update to update, not fall at the end of an epoch."
            ),
            N_("each micro-batch is clipped on its own"): N_("That would bound all windows in the same way."),
            N_("nothing: the last micro-batch happens to be an easy one"): N_(
                "Once, perhaps; not in every epoch, with the data shuffled."
            ),
        },
        2,
    ),
    _Asked(
        "end.loop",
        N_(
            "For each of 400 micro-batches of 8 examples, a loop calls (loss / 4).backward(), then "
            "clip_grad_norm_(parameters, 1.0); after every fourth it calls optimizer.step() and "
            "optimizer.zero_grad(). What is wrong?"
        ),
        N_("the clip comes after each pass"),
        N_(
            "What is clipped is a part of the sum, again and again, and early micro-batches lose weight. "
            "Clip once, before the update."
        ),
        {
            N_("the division by 4"): N_(
                "All micro-batches count 8 examples, so a fourth of each mean is right."
            ),
            N_("the last window is lost"): N_("400 = 100 · 4: here no window is shorter."),
            N_("zero_grad belongs before backward"): N_(
                "After the update the buffer is empty for the next window: that is as good."
            ),
        },
        3,
    ),
    _Asked(
        "end.dropout",
        N_(
            "With dropout 0.1 and the same seed, (M, K) = (8, 1) and (2, 4) end with weights that differ by"
            " a hundredth. How do you find out whether the loop is right?"
        ),
        N_("set dropout to 0 and compare again"),
        N_("Each pass draws masks of its own. Without them a right loop agrees up to rounding."),
        {
            N_("it is wrong: the weights must agree up to rounding"): N_(
                "Not with dropout: four passes draw other masks than one does."
            ),
            N_("compare in float64"): N_("Rounding is not the reason: the masks differ in float64, too."),
            N_("lower the learning rate until they agree"): N_(
                "That makes all differences small, also those of a wrong loop."
            ),
        },
        0,
    ),
    _Asked(
        "end.mixing",
        N_(
            "In float64, one loop's accumulated gradient is 2e-16 off the big batch's for a model with "
            "LayerNorm, and 3e-3 off for the same model with BatchNorm in training mode. What follows?"
        ),
        N_("the loop is right; no loop is exact for the second model"),
        N_(
            "BatchNorm's statistics are those of the micro-batch, so an example's loss depends on its "
            "neighbours."
        ),
        {
            N_("both are rounding"): N_(
                "Rounding in float64 is near 1e-16; 3e-3 is thirteen powers of ten more."
            ),
            N_("the loop divides wrongly"): N_("Then it would be wrong for the first model too."),
            N_("the second needs a smaller learning rate"): N_(
                "The gradients are compared at the same weights, before any step."
            ),
        },
        1,
    ),
    _Asked(
        "end.processes",
        N_(
            "Two processes; their gradients are averaged. The window of the first has 300 tokens, that of "
            "the second 100, and each divides its own loss sum by its own count. What does the update "
            "average?"
        ),
        N_("a token of the second process counts three times as much as one of the first"),
        N_("Their weights are 1 / (2 · 100) and 1 / (2 · 300). Divide both by the 400 of all processes."),
        {
            N_("all 400 tokens alike"): N_("Only if both divide by the count of all processes together."),
            N_("a token of the first process counts three times as much"): N_(
                "The other way round: the larger count divides each token more."
            ),
            N_("it would be right with no_sync"): N_(
                "no_sync saves traffic; the weights of tokens stay as they are."
            ),
        },
        3,
    ),
    _Asked(
        "end.choose",
        N_(
            "From M = 16 on, a GPU takes the same time for each example. M = 64 fits, and B = 512 is "
            "wanted. Somebody proposes M = 16, K = 32 in place of M = 64, K = 8. What changes?"
        ),
        N_("memory: less of it; time and gradient stay about the same"),
        N_("The GPU is full in both, and both average the same 512 examples."),
        {
            N_("it is faster: small passes are quick"): N_(
                "There are four times as many, and the GPU is full in both."
            ),
            N_("it takes four times as long"): N_("Only below M = 16 would the GPU idle in small passes."),
            N_("the gradient is noisier"): N_("The noise depends on B, which is 512 in both."),
        },
        2,
    ),
)
NAMES = tuple(asked.name for asked in ASKED)


def end_quiz() -> list[Question]:
    """The questions in the language that is spoken, with what is said to each option."""
    return [_question(asked) for asked in ASKED]


def _question(asked: _Asked) -> Question:
    right, why = _(asked.right), _(asked.why)
    answer = plain(_("It is: <b>{option}</b>.", option=right))
    options = [_(option) for option in asked.wrong]
    said = [sentences(_(reason), answer, why) for reason in asked.wrong.values()]
    options.insert(asked.at, right)
    said.insert(asked.at, sentences(_("Right."), why))
    return Question(asked.name, _(asked.text), tuple(options), asked.at, tuple(said))
