"""The tests here belong to the package: they run where it is installed, not with jobdeck's own."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("acme_jobs") else ["tests"]
