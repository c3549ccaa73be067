"""Aux-VAE for labelled images: simulation, training, evaluation and generation, from a laptop to a cluster."""

__version__ = "0.1.0"
