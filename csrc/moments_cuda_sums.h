// A warp's share of the statistics: powers of its samples go to shared memory, from there to the tensor cores, whose
// result stays in registers together with the sums of single columns.
#pragma once

#include "moments_cuda.h"

namespace hpcauxvae {
namespace {

constexpr int kRows = 16, kCols = 32;  // of a tile of the cross moments: powers of factors, powers of codes
constexpr int kPitchU = kRows + 4, kPitchC = kCols + 4;  // the 4 samples of a product then lie in different banks
constexpr int kRounds = 4;                               // numbers of each input that a lane has on their way
constexpr int kMostStep = 16;                            // samples that a warp takes at a time; a multiple of 4
// Sums of the block: of u^k and squares, of c^k, squares and V^k, and the number of samples.
constexpr int kTotals = 2 * kRows + 3 * kCols + 1;
constexpr int kShifts = kRows + kCols;

// Which column of a sample a lane takes, and which of the samples of a round.
struct Lane {
    int column, sample, samples;
    bool active;

    __device__ explicit Lane(int columns)
        : column(threadIdx.x % 32 % columns), sample(threadIdx.x % 32 / columns), samples(32 / columns),
          active(sample < samples) {}
};

template <int K, bool SPREAD>
class WarpSums {
   public:
    // d factors from number j on, dz latents from number z on. tile: this warp's shared memory.
    __device__ WarpSums(int j, int d, int z, int dz, bool alone, int64_t end, int step, const double* shifts,
                        double* tile)
        : j_(j), d_(d), z_(z), dz_(dz), alone_(alone), end_(end), step_(step), shifts_(shifts), tile_u_(tile),
          tile_c_(tile + step * kPitchU), lane_u_(d), lane_c_(dz) {
        for (int i = threadIdx.x % 32; i < step * (kPitchU + kPitchC); i += 32) tile[i] = 0;
    }

    // Starts to read the samples from `start` on.
    __device__ void fetch(const Rows& u, const Rows& mean, const Rows& var, int64_t start) {
#pragma unroll
        for (int r = 0; r < kRounds; ++r) {
            if (holds(lane_u_, r, start)) u_[r] = hpcauxvae::fetch(u, start + at(lane_u_, r), j_ + lane_u_.column);
            if (!holds(lane_c_, r, start)) continue;
            mean_[r] = hpcauxvae::fetch(mean, start + at(lane_c_, r), z_ + lane_c_.column);
            if (SPREAD) var_[r] = hpcauxvae::fetch(var, start + at(lane_c_, r), z_ + lane_c_.column);
        }
    }

    // Puts the centred powers of the fetched samples into the tile; 0 for samples that do not count.
    __device__ void raise_to_powers(const Rows& u, const Rows& mean, const Rows& var, int64_t start) {
#pragma unroll
        for (int r = 0; r < kRounds; ++r) {
            const int i = at(lane_u_, r);
            if (!lane_u_.active || i >= step_) continue;
            const bool there = start + i < end_;
            const double x = there ? decode(u_[r], u.type) : 0.0;
            const bool known = there && x == x;
            missing_ |= there && !known;
            known_ += known;
            double power = x;
            for (int k = 0; k < K; ++k, power *= x) {
                const int column = lane_u_.column * K + k;
                const double value = known ? power - shifts_[column] : 0.0;
                sum_u_[k] += value;
                square_u_[k] += value * value;
                tile_u_[i * kPitchU + column] = value;
            }
        }
#pragma unroll
        for (int r = 0; r < kRounds; ++r) {
            const int i = at(lane_c_, r);
            if (!lane_c_.active || i >= step_) continue;
            const bool there = start + i < end_, known = there && (!alone_ || !isnan(load(u, start + i, j_)));
            double m[K + 1], v[K + 1];
            const double spread = SPREAD && there ? decode(var_[r], var.type) : 0.0;
            power_means<K, SPREAD>(there ? decode(mean_[r], mean.type) : 0.0, spread, m);
            if (SPREAD) power_variances<K>(m, spread, v);
            for (int k = 0; k < K; ++k) {
                const int column = lane_c_.column * K + k;
                const double value = known ? m[k + 1] - shifts_[kRows + column] : 0.0;
                sum_c_[k] += value;
                square_c_[k] += value * value;
                if (SPREAD && known) spread_[k] += v[k + 1];
                tile_c_[i * kPitchC + column] = value;
            }
        }
    }

    __device__ void multiply() {
        const int across = threadIdx.x % 4, along = threadIdx.x % 32 / 4;
        for (int s = across; s < step_; s += 4) {
            double a[kRows / 8], b[kCols / 8];
            for (int f = 0; f < kRows / 8; ++f) a[f] = tile_u_[s * kPitchU + 8 * f + along];
            for (int g = 0; g < kCols / 8; ++g) b[g] = tile_c_[s * kPitchC + 8 * g + along];
            for (int f = 0; f < kRows / 8; ++f)
                for (int g = 0; g < kCols / 8; ++g) multiply_add(cross_[f][g], a[f], b[g]);
        }
    }

    __device__ bool missing() const { return missing_; }

    // All warps' sums: of single columns into totals, of products, warp by warp, into work.
    __device__ void reduce(double* work, double* totals) const {
        const int t = threadIdx.x;
        for (int k = 0; k < K; ++k) {
            work[k * kThreads + t] = sum_u_[k];
            work[(K + k) * kThreads + t] = square_u_[k];
            work[(2 * K + k) * kThreads + t] = sum_c_[k];
            work[(3 * K + k) * kThreads + t] = square_c_[k];
            work[(4 * K + k) * kThreads + t] = spread_[k];
        }
        work[5 * K * kThreads + t] = known_;
        __syncthreads();
        static_assert(kTotals == kThreads + 1);
        const int kind = t < 2 * kRows ? t / kRows : 2 + (t - 2 * kRows) / kCols;
        const int column = kind < 2 ? t % kRows : (t - 2 * kRows) % kCols, columns = kind < 2 ? d_ : dz_;
        totals[t] = column < columns * K ? over_lanes(work + (kind * K + column % K) * kThreads, column / K, columns) : 0;
        if (t == 0) totals[kTotals - 1] = over_lanes(work + 5 * K * kThreads, 0, d_);
        __syncthreads();
        const int row = t % 32 / 4, col = 2 * (t % 4);
        for (int f = 0; f < kRows / 8; ++f)
            for (int g = 0; g < kCols / 8; ++g)
                for (int i = 0; i < 2; ++i)
                    work[(t / 32 * kRows + 8 * f + row) * kCols + 8 * g + col + i] = cross_[f][g][i];
        __syncthreads();
    }

   private:
    __device__ static int at(const Lane& lane, int round) { return lane.sample + round * lane.samples; }
    __device__ bool holds(const Lane& lane, int round, int64_t start) const {
        return lane.active && at(lane, round) < step_ && start + at(lane, round) < end_;
    }
    __device__ static double over_lanes(const double* values, int column, int columns) {
        double total = 0;
        for (int w = 0; w < kWarps; ++w)
            for (int s = 0; s < 32 / columns; ++s) total += values[w * 32 + s * columns + column];
        return total;
    }

    const int j_, d_, z_, dz_;
    const bool alone_;
    const int64_t end_;
    const int step_;
    const double* const shifts_;
    double *const tile_u_, *const tile_c_;
    const Lane lane_u_, lane_c_;
    unsigned long long u_[kRounds] = {}, mean_[kRounds] = {}, var_[kRounds] = {};
    double sum_u_[K] = {}, square_u_[K] = {}, sum_c_[K] = {}, square_c_[K] = {}, spread_[K] = {}, known_ = 0;
    double cross_[kRows / 8][kCols / 8][2] = {};
    bool missing_ = false;
};

}  // namespace
}  // namespace hpcauxvae
