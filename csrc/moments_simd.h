// The two passes over a range of samples, compiled once per instruction set (moments_simd.cpp).
#pragma once

#include "moments.h"

namespace hpcauxvae {

struct Passes {
    const char* name;
    size_t (*workspace)(const Shape&);  // doubles that each pass may overwrite, 64-byte aligned
    // Moments of samples begin..end-1; overwrites `moments`.
    void (*statistics)(const Inputs&, int64_t begin, int64_t end, double* workspace, double* moments);
    // d/d mean and d/d var of the same samples; `slopes` already carries the upstream gradients.
    void (*gradient)(const Inputs&, const double* moments, const double* slopes, int64_t begin, int64_t end,
                     double* workspace, const Gradients&);
};

extern const Passes passes_baseline;
#ifdef HPCAUXVAE_X86_VARIANTS
extern const Passes passes_x86_64_v3;
extern const Passes passes_x86_64_v4;
#endif

}  // namespace hpcauxvae
