"""What is to be told of ended runs, to whom, and what became of it."""
