"""`python -m hpcauxvae.evaluate`: the command `hpcauxvae evaluate`."""

from hpcauxvae.cli import main

main("evaluate")
