"""How fast jobdeck is, beside what its users would pick instead and beside the bare storage. Started by scripts/bench.

This package is also imported by the peers, in an environment without jobdeck: nothing may be imported here.
"""
