"""What any process needs: who started it, its collectives, files, locks, stop requests, a watchdog."""
