"""Every head of the installed Transformers that takes labels, tiny and random, through the real Trainer."""
