"""The worker: claims runs, keeps their leases alive, runs handlers on a loop of their own, writes outcomes."""
