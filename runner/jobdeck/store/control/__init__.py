"""What holds runs back for all workers alike: pauses, limits of jobs, keys and queues, rates, windows.

`known` tells a claim whether there is any of it; then `choose` chooses, as far as the `budget` goes. `gates` keeps the
limits of jobs, `pauses` the pauses, `rates` when runs began, `turns` who waits for a place under a concurrency key.
"""
