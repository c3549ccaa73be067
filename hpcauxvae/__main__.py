"""`python -m hpcauxvae`: the command `hpcauxvae`."""

from hpcauxvae.cli import main

main()
