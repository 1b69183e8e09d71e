"""Masked language modelling: which tokens are hidden, and what stands there instead.

15 % of a text's tokens are to be guessed; of those 80 % become ``<mask>``, 10 % another token, 10 % stay.
Each example draws from a seed of its own, so its masks do not depend on how examples are cut into
micro-batches. Sources: Devlin et al. 2019 (arXiv 1810.04805, section 3.1); new masks in every epoch as in
Liu et al. 2019 (arXiv 1907.11692, section 4.1), whose code also rounds the number of masks at random.
"""

import random
from collections.abc import Collection, Sequence

from accum_lib.losses import IGNORE_INDEX

MASKED, AS_MASK, AS_OTHER = 0.15, 0.8, 0.1


def mask_tokens(
    tokens: Sequence[int], special: Collection[int], mask_id: int, vocabulary: Sequence[int], key: str
) -> tuple[list[int], list[int]]:
    """The tokens with some hidden, and labels: the hidden tokens, and -100 elsewhere.

    At least one token is hidden if there is any that is not special, or short texts would teach nothing.

    Args:
        tokens: of one example, with special tokens.
        special: ids that are never hidden.
        mask_id: of ``<mask>``.
        vocabulary: what a token may be replaced by.
        key: the same key gives the same masks, on every machine.
    """
    dice = random.Random(key)
    places = [i for i, token in enumerate(tokens) if token not in special]
    number = min(len(places), max(1, int(MASKED * len(places) + dice.random())))
    inputs, labels = list(tokens), [IGNORE_INDEX] * len(tokens)
    for i in dice.sample(places, number):
        labels[i] = tokens[i]
        fate = dice.random()
        if fate < AS_MASK:
            inputs[i] = mask_id
        elif fate < AS_MASK + AS_OTHER:
            inputs[i] = dice.choice(vocabulary)
    return inputs, labels
