"""How the command line writes what it shows as JSON, for programs."""
