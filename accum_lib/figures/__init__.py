"""What is drawn: plain data in, a picture out."""
