"""What every test may use; the plugins named here are this folder's own modules."""

pytest_plugins = [
    "tests.postgres",
    "tests.databases",
    "tests.nursery",
    "tests.reporting",
    "tests.capabilities.proofs",
    "tests.faults.report",
]
