#include <pybind11/pybind11.h>

PYBIND11_MODULE(_core, module) { module.attr("cuda_compiled") = HPCAUXVAE_CUDA != 0; }
