"""What a run keeps on disk, atomically, and how it resumes."""
