"""What is measured: each lens looks at real runs of the core and fills plain records."""
