"""Labelled image sets: the file format, and what each published data set holds."""
