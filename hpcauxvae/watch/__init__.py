"""Follows trainings from outside, by what they write into their folders."""
