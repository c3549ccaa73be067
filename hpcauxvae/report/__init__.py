"""One page of a run: what was found, and the model to play with."""
