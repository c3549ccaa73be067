"""`python -m hpcauxvae.train`: the command `hpcauxvae train`."""

from hpcauxvae.cli import main

main("train")
