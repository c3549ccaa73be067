// d/d mean and d/d var on GPUs. Each warp takes 16 samples at a time, two pieces of 8. With the powers of the factors
// as one matrix and the slopes of the cross moments as the other, the tensor cores give for every sample and every E[z^k]
//
//   sum over p of (u_p - mean u_p) d term / d cross_pq
//
// and the columns are dealt out such that a lane ends up with all powers of the latents it will finish.

#include "moments_cuda.h"

namespace hpcauxvae {
namespace {

constexpr int kMostBlocks = 1024, kPieces = 2, kWarpSamples = 8 * kPieces;

// Latents that one lane finishes; the four lanes that share a sample have four times as many.
HPCAUXVAE_HD constexpr int latents_per_lane(int k) { return k == 1 ? 8 : k == 2 ? 4 : k == 3 ? 3 : 2; }

struct GradientProblem {
    Inputs in;
    const double *moments, *slopes, *scale_intra, *scale_inter;
    Gradients to;
};

// What does not depend on the sample where all factors are known: d loss / d c_q = sum over p as above
// + 2 within_q (c_q - centre_q) + offset_q and d loss / d V_q = within_q.
struct Columns {
    double *within, *centre, *offset;
};

template <int K>
__device__ HPCAUXVAE_ONCE void set_columns(const GradientProblem& p, int first, int count, const Columns& columns) {
    const Layout layout(p.in.shape);
    const double* const mean_c = p.moments + layout.mean_c();
    for (int i = threadIdx.x; i < count; i += kThreads) {
        const size_t b = first + i;
        double within = 0, offset = 0;
        const double centre = b < layout.q ? mean_c[b] : 0.0;
#pragma unroll 4
        for (int j = 0; b < layout.q && j < p.in.shape.d; ++j) {
            const double slope = p.slopes[j * layout.q + b];
            within += slope;
            offset += 2 * slope * (centre - mean_c[j * layout.q + b]);
        }
        columns.within[i] = within, columns.centre[i] = centre, columns.offset[i] = offset;
    }
    __syncthreads();
}

// Within and offset of column b, over the factors that sample n has.
__device__ HPCAUXVAE_ONCE double2 of_known(const GradientProblem& p, int64_t n, size_t b, double centre) {
    const Layout layout(p.in.shape);
    double within = 0, offset = 0;
#pragma unroll 1
    for (int j = 0; j < p.in.shape.d; ++j) {
        if (isnan(load(p.in.u, n, j))) continue;
        const double slope = p.slopes[j * layout.q + b];
        within += slope;
        offset += 2 * slope * (centre - p.moments[layout.mean_c() + j * layout.q + b]);
    }
    return make_double2(within, offset);
}

// The samples n and n + 8 of this lane, for its latents from number z on.
template <int K, bool SPREAD>
class WarpGradient {
    static constexpr int kLatents = latents_per_lane(K), kSlots = kLatents * K, kPairs = (kSlots + 1) / 2;

   public:
    __device__ WarpGradient(const GradientProblem& p, int64_t n, int z) : p_(p), n_(n), z_(z) {
#pragma unroll
        for (int f = 0; f < kPieces; ++f)
#pragma unroll
            for (int l = 0; l < kLatents; ++l)
                if (holds(f, l)) {
                    mean_[f][l] = fetch(address(p.in.mean, n_ + 8 * f, z_ + l), p.in.mean.type);
                    if (SPREAD) var_[f][l] = fetch(address(p.in.var, n_ + 8 * f, z_ + l), p.in.var.type);
                }
    }

    // first: column of slot 0 of the lane that this lane supplies with slopes.
    __device__ void multiply(int first) {
        const int across = threadIdx.x % 4, rows = int(p_.in.shape.p());
        const Layout layout(p_.in.shape);
        const double *const mean_u = p_.moments + layout.mean_u(), *const cross = p_.slopes + p_.in.shape.d * layout.q;
#pragma unroll 2
        for (int top = 0; top < rows; top += 4) {
            const int row = top + across;
            double a[kPieces] = {};
            if (row < rows)
                for (int f = 0; f < kPieces; ++f)
                    if (n_ + 8 * f < p_.in.shape.n) {
                        const double x = load(p_.in.u, n_ + 8 * f, row / K);
                        double power = x;
                        for (int k = 1; k < K; ++k) power = k <= row % K ? power * x : power;
                        missing_ |= isnan(x);
                        a[f] = isnan(x) ? 0.0 : power - mean_u[row];
                    }
#pragma unroll
            for (int g = 0; g < kPairs; ++g) {
                const int slot = 2 * g + threadIdx.x / 4 % 2;
                const bool there = row < rows && slot < kSlots && first + slot < int(layout.q);
                const double b = there ? cross[row * layout.q + first + slot] : 0.0;
                for (int f = 0; f < kPieces; ++f) multiply_add(total_[f][g], a[f], b);
            }
        }
        missing_ = __any_sync(kAllLanes, missing_);
    }

    // columns: of the first of the block's latents, which is number z0.
    __device__ void finish(const Columns& columns, int z0, double scale_intra, double scale_inter) const {
#pragma unroll
        for (int f = 0; f < kPieces; ++f)
#pragma unroll
            for (int l = 0; l < kLatents; ++l) {
                if (!holds(f, l)) continue;
                double m[K + 1], in_c[K + 1], in_v[K + 1], d_mean, d_var;
                const double var = SPREAD ? decode(var_[f][l], p_.in.var.type) : 0.0;
                power_means<K, SPREAD>(decode(mean_[f][l], p_.in.mean.type), var, m);
                const double scale = z_ + l < p_.in.shape.d ? scale_intra : scale_inter;
                const int first = (z_ - z0) * K + l * K;  // among the block's columns
                double2 own[K];                           // within, offset
                for (int k = 0; k < K; ++k) own[k] = make_double2(columns.within[first + k], columns.offset[first + k]);
                if (missing_)
                    for (int k = 0; k < K; ++k)
                        own[k] = of_known(p_, n_ + 8 * f, size_t(z_ + l) * K + k, columns.centre[first + k]);
#pragma unroll
                for (int k = 1; k <= K; ++k) {
                    const int slot = l * K + k - 1;
                    const double centred = m[k] - columns.centre[first + k - 1];
                    in_c[k] = scale * (total_[f][slot / 2][slot % 2] + 2 * own[k - 1].x * centred + own[k - 1].y);
                    in_v[k] = scale * own[k - 1].x;
                }
                chain<K, SPREAD>(m, var, in_c, in_v, d_mean, d_var);
                store(d_mean, p_.to.mean, n_ + 8 * f, z_ + l);
                if (SPREAD) store(d_var, p_.to.var, n_ + 8 * f, z_ + l);
            }
    }

   private:
    __device__ bool holds(int piece, int latent) const {
        return n_ + 8 * piece < p_.in.shape.n && z_ + latent < p_.in.shape.z;
    }

    const GradientProblem& p_;
    const int64_t n_;
    const int z_;
    Bits mean_[kPieces][kLatents], var_[kPieces][kLatents];
    double total_[kPieces][kPairs][2] = {};
    bool missing_ = false;
};

template <int K, bool SPREAD>
__global__ void __launch_bounds__(kThreads, 3) gradient_kernel(const __grid_constant__ GradientProblem p) {
    HPCAUXVAE_SHARED(double, shared);
    constexpr int kLatents = 4 * latents_per_lane(K), kColumns = kLatents * K;
    const Columns columns{shared, shared + kColumns, shared + 2 * kColumns};
    const int lane = threadIdx.x % 32, z0 = blockIdx.y * kLatents;
    set_columns<K>(p, z0 * K, kColumns, columns);
    const double scale_intra = *p.scale_intra, scale_inter = *p.scale_inter;
    const int64_t stride = int64_t(gridDim.x) * kWarps * kWarpSamples;
    int64_t start = (int64_t(blockIdx.x) * kWarps + threadIdx.x / 32) * kWarpSamples;
    for (; start < p.in.shape.n; start += stride) {
        WarpGradient<K, SPREAD> warp(p, start + lane / 4, z0 + lane % 4 * latents_per_lane(K));
        warp.multiply((z0 + lane / 8 * latents_per_lane(K)) * K);
        warp.finish(columns, z0, scale_intra, scale_inter);
    }
}

}  // namespace

namespace cuda {

void gradient(const Inputs& in, const double* moments, const double* slopes, const double* scale_intra,
              const double* scale_inter, const Gradients& to, const Queue& queue) {
    const Shape& shape = in.shape;
    if (shape.n == 0) return;
    const On on(queue);
    const GradientProblem p{in, moments, slopes, scale_intra, scale_inter, to};
    const int64_t wanted = (shape.n + kWarps * kWarpSamples - 1) / (kWarps * kWarpSamples);
    for_degree(shape.k, [&](auto k) {
        constexpr int K = decltype(k)::value, kLatents = 4 * latents_per_lane(K);
        const dim3 grid(unsigned(wanted < kMostBlocks ? wanted : kMostBlocks), (shape.z + kLatents - 1) / kLatents);
        launch(in.var.data ? gradient_kernel<K, true> : gradient_kernel<K, false>, grid, 3 * kLatents * K, queue, p);
    });
}

}  // namespace cuda
}  // namespace hpcauxvae
