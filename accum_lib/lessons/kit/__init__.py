"""What all lessons share: the grid of settings, quizzes, stills, feedback, progress, the map."""
