"""Jobs: submission, checks before a job starts, what works on this machine."""
