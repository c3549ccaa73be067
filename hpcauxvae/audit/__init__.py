"""Whether a measurement that a model was not given adds independent variation to the images."""
