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

// Where a lane's numbers of one input lie.
struct Stream {
    const char* next;     // of the first round
    int64_t round, step;  // bytes to the next one, to the next samples of this warp

    __device__ Stream(const Rows& rows, int64_t start, int step, int column, const Lane& lane)
        : next(address(rows, start + lane.sample, column + lane.column)),
          round(lane.samples * rows.stride * size_of(rows.type)),
          step(int64_t(kWarps) * step * rows.stride * size_of(rows.type)) {}
};

template <int K, bool SPREAD>
class WarpSums {
   public:
    // d factors from number j on, dz latents from number z on; this warp's samples begin at `start`. tile: its shared
    // memory.
    __device__ WarpSums(const Rows& u, const Rows& mean, const Rows& var, int j, int d, int z, int dz, bool alone,
                        int64_t start, int64_t end, int step, const double* shifts, double* tile)
        : u_(u), mean_(mean), var_(var), j_(j), d_(d), dz_(dz), alone_(alone), end_(end), step_(step),
          shifts_(shifts), tile_u_(tile), tile_c_(tile + step * kPitchU), lane_u_(d), lane_c_(dz),
          from_u_(u, start, step, j, lane_u_), from_mean_(mean, start, step, z, lane_c_),
          from_var_(var, start, step, z, lane_c_) {
#pragma unroll 1
        for (int i = threadIdx.x % 32; i < step * (kPitchU + kPitchC); i += 32) tile[i] = 0;
    }

    // Starts to read the next samples, which are `start` and after.
    __device__ void fetch(int64_t start) {
#pragma unroll
        for (int r = 0; r < kRounds; ++r) {
            if (holds(lane_u_, r, start)) bits_u_[r] = hpcauxvae::fetch(from_u_.next + r * from_u_.round, u_.type);
            if (!holds(lane_c_, r, start)) continue;
            bits_mean_[r] = hpcauxvae::fetch(from_mean_.next + r * from_mean_.round, mean_.type);
            if (SPREAD) bits_var_[r] = hpcauxvae::fetch(from_var_.next + r * from_var_.round, var_.type);
        }
        from_u_.next += from_u_.step, from_mean_.next += from_mean_.step, from_var_.next += from_var_.step;
    }

    // Puts the centred powers of the fetched samples into the tile; 0 for samples that do not count.
    __device__ void raise_to_powers(int64_t start) {
#pragma unroll
        for (int r = 0; r < kRounds; ++r) {
            const int i = at(lane_u_, r);
            if (!lane_u_.active || i >= step_) continue;
            const bool there = start + i < end_;
            const double x = there ? decode(bits_u_[r], u_.type) : 0.0;
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
            const bool there = start + i < end_, known = there && (!alone_ || !isnan(load(u_, start + i, j_)));
            double m[K + 1], v[K + 1];
            const double spread = SPREAD && there ? decode(bits_var_[r], var_.type) : 0.0;
            power_means<K, SPREAD>(there ? decode(bits_mean_[r], mean_.type) : 0.0, spread, m);
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
#pragma unroll 1
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
        const double* const values = work + (kind * K + column % K) * kThreads;
        totals[t] = column < columns * K ? over_lanes(values, column / K, columns) : 0;
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
#pragma unroll 1
            for (int s = 0; s < 32 / columns; ++s) total += values[w * 32 + s * columns + column];
        return total;
    }

    const Rows &u_, &mean_, &var_;
    const int j_, d_, dz_;
    const bool alone_;
    const int64_t end_;
    const int step_;
    const double* const shifts_;
    double *const tile_u_, *const tile_c_;
    const Lane lane_u_, lane_c_;
    Stream from_u_, from_mean_, from_var_;
    Bits bits_u_[kRounds], bits_mean_[kRounds], bits_var_[kRounds];
    double sum_u_[K] = {}, square_u_[K] = {}, sum_c_[K] = {}, square_c_[K] = {}, spread_[K] = {};
    int known_ = 0;
    double cross_[kRows / 8][kCols / 8][2] = {};
    bool missing_ = false;
};

}  // namespace
}  // namespace hpcauxvae
