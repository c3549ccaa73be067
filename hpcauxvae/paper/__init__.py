"""The tables and figures of Ganguli et al.: items.py says for each where it is drawn, and from which runs."""
