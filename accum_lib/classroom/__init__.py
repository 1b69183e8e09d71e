"""For teachers: a student's copy, a table of what was handed in, quizzes for a learning platform."""
