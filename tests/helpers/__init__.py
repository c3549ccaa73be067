"""What several test files share: programs that tests start, made data, and independent references."""
