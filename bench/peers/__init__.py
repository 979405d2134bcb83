"""Other runners, used as they are published. The scripts here run in an environment of their own."""
