// Polynomial moments and the regularizers of (9) on plain memory. Knows neither Python nor torch.
//
// Shapes: N samples, D auxiliary factors, Z latent coordinates, K degree; P = D K, Q = Z K.
//
//   u_nj^k                        powers of the factors, k = 1..K; NaN: not measured
//   c_nz^k = E[z^k | x_n]         z | x_n ~ N(mean_nz, var_nz): mu, mu^2 + s2, mu^3 + 3 mu s2, ...
//   V_nz^k = Var(z^k | x_n)     = sum over i = 1..k of i! C(k, i)^2 s2^i E[z^(k-i) | x_n]^2
//
// Three steps. `statistics`: moments of these columns, for each factor over the samples where it is known.
// `finalize`: moments -> the two terms of (9) and their slopes with respect to the moments. `gradient`: slopes ->
// d/d mean, d/d var. A reduction over ranks may stand between the first and the second.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#ifdef __CUDACC__
#define HPCAUXVAE_HD __host__ __device__
#else
#define HPCAUXVAE_HD
#endif

namespace hpcauxvae {

constexpr int kMaxDegree = 6;

struct Shape {
    int64_t n;
    int d, z, k;

    HPCAUXVAE_HD size_t p() const { return size_t(d) * k; }
    HPCAUXVAE_HD size_t q() const { return size_t(z) * k; }
};

enum class Type { f32, f64, bf16 };

HPCAUXVAE_HD constexpr int size_of(Type type) { return type == Type::f64 ? 8 : type == Type::f32 ? 4 : 2; }

// Row n starts `stride` elements after row n - 1; columns are adjacent.
template <class Pointer>
struct RowsAt {
    Pointer data = nullptr;
    int64_t stride = 0;
    Type type = Type::f64;
};
using Rows = RowsAt<const void*>;
using OutRows = RowsAt<void*>;

// u: (N, D). mean, var: (N, Z); var.data may be null, for variance 0.
struct Inputs {
    Shape shape;
    Rows u, mean, var;
};

// d/d mean, d/d var: (N, Z); var.data is null exactly where that of the inputs is.
struct Gradients {
    OutRows mean, var;
};

// The moments, one block after the other, in an array of `size()` doubles. The first three become a sum over ranks as
// (n, n mean); the last four as M2 + n gap gap^T.
struct Layout {
    size_t d, p, q;

    HPCAUXVAE_HD explicit Layout(const Shape& shape) : d(shape.d), p(shape.p()), q(shape.q()) {}
    HPCAUXVAE_HD size_t n() const { return 0; }                          // (D)
    HPCAUXVAE_HD size_t mean_u() const { return d; }                     // (D, K)
    HPCAUXVAE_HD size_t mean_c() const { return mean_u() + p; }          // (D, Z, K)
    HPCAUXVAE_HD size_t within() const { return mean_c() + d * q; }      // (D, Z, K)  sum of V
    HPCAUXVAE_HD size_t m2_u() const { return within() + d * q; }        // (D, K)     sum of squares about the mean
    HPCAUXVAE_HD size_t m2_c() const { return m2_u() + p; }              // (D, Z, K)
    HPCAUXVAE_HD size_t cross() const { return m2_c() + d * q; }         // (D, K, Z, K)
    HPCAUXVAE_HD size_t size() const { return cross() + p * q; }
};

// d term / d (m2_c + within), (D, Z, K), followed by d term / d cross, (D, K, Z, K). Column z < D belongs to the first
// term, every other column to the second, so one array serves both.
HPCAUXVAE_HD inline size_t slopes_size(const Shape& shape) { return (shape.d + shape.p()) * shape.q(); }

// intra = sum over j of R1(u_j, z_j) + R0(u_j, z_aux without j); inter = R0(u, z_recon).
struct Terms {
    double *intra = nullptr, *inter = nullptr, *slopes = nullptr;
};

// Same bits for every number of threads.
void statistics(const Inputs&, int threads, double* moments);

void finalize(const Shape&, const double* moments, const Terms&);

// scale_intra, scale_inter: upstream gradients of the two terms.
void gradient(const Inputs&, const double* moments, const double* slopes, double scale_intra, double scale_inter,
              int threads, const Gradients&);

// The same three steps on a GPU: all pointers are to its memory, and so are the two terms and their upstream gradients.
// Nothing waits, nothing is allocated; every result has the same bits in every run.
namespace cuda {

struct Queue {
    int device;
    void* stream;  // a cudaStream_t of this device
};

// Doubles that `statistics` and `finalize` may overwrite.
size_t workspace_size(const Shape&);

// The terms are made in the same launch, where their pointers are not null.
void statistics(const Inputs&, double* workspace, double* moments, const Terms&, const Queue&);

void finalize(const Shape&, const double* moments, double* workspace, const Terms&, const Queue&);

void gradient(const Inputs&, const double* moments, const double* slopes, const double* scale_intra,
              const double* scale_inter, const Gradients&, const Queue&);

// GPUs that the driver offers; 0 without a driver.
int device_count();

}  // namespace cuda

// Instruction set that the two passes on the CPU use: the best of this machine, unless another was asked for.
const char* instruction_set();

// Those of this machine, the best first.
std::vector<std::string> instruction_sets();

// False: this machine has none of that name, and nothing changes. For tests and measurements.
bool use_instruction_set(const std::string& name);

}  // namespace hpcauxvae
