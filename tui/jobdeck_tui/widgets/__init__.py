"""Widgets that paint lines. None of them takes markup, so no text can act on the console."""
