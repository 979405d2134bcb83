"""Pure functions from data to lines of text. Nothing here imports Textual, waits or reads a clock."""
