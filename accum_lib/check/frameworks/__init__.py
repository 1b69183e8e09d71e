"""Real frameworks' training loops, so that the equivalence lens can look at them as they are installed.

Each module makes a loop for the checker out of a framework: set up as its own guide says, with nothing mended
unless the name says so. ``mean_loss(model, batch)`` is the loss that a user of the framework would write.
"""
