"""The views that the console switches between: they turn keys into intents and answers into lines."""
