"""Labelled image sets drawn by GalSim, alone or on many MPI ranks. The only importer of galsim."""
