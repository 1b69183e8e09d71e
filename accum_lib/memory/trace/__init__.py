"""One update run on meta tensors, with the birth and death of each storage written down."""
