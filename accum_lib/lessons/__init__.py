"""What a reader touches: a folder for each notebook, and the kit that they share."""
