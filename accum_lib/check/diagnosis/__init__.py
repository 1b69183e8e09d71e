"""What is wrong with a loop that is not equal: evidence from its updates, read into a cause."""
