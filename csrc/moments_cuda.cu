// Moments on GPUs. The cross moments are a matrix product, powers of factors times powers of codes, and run on the
// float64 tensor cores in pieces of 16 x 32 (a tile); everything else is arithmetic on one number at a time.
//
// statistics: the samples are cut into as many parts as there are blocks, at most kMostBlocks on every GPU, so that the
// result does not depend on the GPU. Powers are centred on a part's first sample: its distance d from the mean of the
// n samples of the part obeys d^2 <= n variance, so M2 = sum x^2 - (sum x)^2 / n loses at most a factor n to rounding,
// and a constant column gives exactly 0. The block that finishes last merges the parts, in the order of their numbers,
// and computes the terms. gradient: every warp takes 16 samples at a time.
//
// A block first takes all its factors as known. Where a factor is missing it starts again and takes them singly.

#include "moments_cuda_sums.h"

namespace hpcauxvae {
namespace {

constexpr int kSamplesPerBlock = 128, kMostBlocks = 512, kGroup = 16;  // a group's parts are merged first

struct Plan {
    int factors, latents;  // of a tile
    int tiles, tiles_z;
    int blocks, groups;  // of each tile
    int step;            // samples that a warp takes at a time
    size_t slot;         // doubles in the moments of a tile

    explicit Plan(const Shape& s)
        : factors(s.d * s.k < kRows ? s.d : kRows / s.k), latents(s.z * s.k < kCols ? s.z : kCols / s.k) {
        tiles_z = (s.z + latents - 1) / latents;
        tiles = (s.d + factors - 1) / factors * tiles_z;
        if (tiles > 65535)
            throw std::invalid_argument("the shape needs " + std::to_string(tiles) + " tiles; allowed: 65535");
        const int64_t most = kMostBlocks / tiles > 0 ? kMostBlocks / tiles : 1;
        const int64_t wanted = s.n / kSamplesPerBlock;
        blocks = int(wanted < 1 ? 1 : wanted < most ? wanted : most);
        groups = (blocks + kGroup - 1) / kGroup;
        const int lanes_u = 32 / factors, lanes_c = 32 / latents, fewer = lanes_u < lanes_c ? lanes_u : lanes_c;
        step = kRounds * fewer < kMostStep ? kRounds * fewer : kMostStep;
        slot = Layout({0, factors, latents, s.k}).size();
    }
    size_t counters() const { return size_t(tiles) * (groups + 1) + 1; }
    // Parts, groups, terms of tiles, counters.
    size_t workspace() const { return tiles * (slot * (blocks + groups) + 2) + (counters() + 1) / 2; }
    size_t shared(int k) const {
        const size_t loop = size_t(kWarps) * step * (kPitchU + kPitchC), sums = (5 * k + 1) * kThreads;
        const size_t work = loop > sums ? loop : sums;
        return slot + kTotals + kShifts + (work > kWarps * kRows * kCols ? work : kWarps * kRows * kCols);
    }
};

struct Problem {
    Shape shape;
    Plan plan;
    Rows u, mean, var;
    double *parts, *groups, *tile_terms;
    unsigned* counters;
    double* moments;
    Terms to;  // to.intra null: moments only

    Problem(const Inputs& in, double* workspace, double* moments, const Terms& to)
        : shape(in.shape), plan(shape), u(in.u), mean(in.mean), var(in.var), parts(workspace),
          groups(parts + plan.tiles * plan.blocks * plan.slot),
          tile_terms(groups + plan.tiles * plan.groups * plan.slot),
          counters(reinterpret_cast<unsigned*>(tile_terms + 2 * plan.tiles)), moments(moments), to(to) {}
};

// The factors and latents of one tile, with the layout of their moments.
struct Tile {
    int j, d, z, dz;  // first factor, number of factors, first latent, number of latents
    Layout at;

    __device__ Tile(const Shape& s, const Plan& plan, int number)
        : j(number / plan.tiles_z * plan.factors), d(min(plan.factors, s.d - j)),
          z(number % plan.tiles_z * plan.latents), dz(min(plan.latents, s.z - z)), at(Shape{0, d, dz, s.k}) {}
};

// The first sample of begin..end-1 whose factor j is known, or end. The same for all threads of the block.
__device__ HPCAUXVAE_ONCE int64_t first_known(const Rows& u, int j, int64_t begin, int64_t end, double* work) {
    int64_t first = end;
#pragma unroll 1
    for (int64_t n = begin + threadIdx.x; n < end && first == end; n += kThreads)
        if (!isnan(load(u, n, j))) first = n;
    work[threadIdx.x] = double(first - begin);
    __syncthreads();
    double nearest = work[0];
#pragma unroll 1
    for (int t = 1; t < kThreads; ++t) nearest = work[t] < nearest ? work[t] : nearest;
    __syncthreads();
    return begin + int64_t(nearest);
}

// Powers of one sample, on which the others are centred. Not a sample of begin..end-1: 0.
template <int K, bool SPREAD>
__device__ HPCAUXVAE_ONCE void set_shifts(const Problem& p, const Tile& tile, int j, int d, int64_t n, bool there,
                                          double* shifts) {
    const int column = threadIdx.x;
    if (column < d * K) {
        const double x = there ? load(p.u, n, j + column / K) : 0.0;
        double power = x;
        for (int k = 0; k < column % K; ++k) power *= x;
        shifts[column] = power;
    }
    if (column < tile.dz * K) {
        const int z = tile.z + column / K;
        double m[K + 1], chosen = 0;
        power_means<K, SPREAD>(there ? load(p.mean, n, z) : 0.0, SPREAD && there ? load(p.var, n, z) : 0.0, m);
        for (int k = 1; k <= K; ++k) chosen = k == column % K + 1 ? m[k] : chosen;
        shifts[kRows + column] = chosen;
    }
}

// Sums of the block -> moments of its d factors, the first of which is number j of the tile.
template <int K>
__device__ HPCAUXVAE_ONCE void write_moments(const Tile& tile, int j, int d, const double* work, const double* totals,
                              const double* shifts, double* moments) {
    const int rows = d * K, cols = tile.dz * K;
    const double *sum_u = totals, *square_u = sum_u + kRows, *sum_c = square_u + kRows, *square_c = sum_c + kCols;
    const double *spread = square_c + kCols, n = totals[kTotals - 1], share = n > 0 ? 1 / n : 0;
#pragma unroll 1
    for (int i = threadIdx.x; i < rows * cols; i += kThreads) {
        const int r = i / cols, c = i % cols;
        double total = 0;
        for (int w = 0; w < kWarps; ++w) total += work[(w * kRows + r) * kCols + c];
        factor(moments, tile.at, j + r / K, K).cross[r % K * tile.at.q + c] = total - sum_u[r] * sum_c[c] * share;
    }
#pragma unroll 1
    for (int i = threadIdx.x; i < d * cols; i += kThreads) {
        const int c = i % cols;
        const FactorMoments to = factor(moments, tile.at, j + i / cols, K);
        to.mean_c[c] = n > 0 ? shifts[kRows + c] + sum_c[c] * share : 0.0;
        to.m2_c[c] = square_c[c] - sum_c[c] * sum_c[c] * share;
        to.within[c] = spread[c];
    }
#pragma unroll 1
    for (int r = threadIdx.x; r < rows; r += kThreads) {
        const FactorMoments to = factor(moments, tile.at, j + r / K, K);
        to.mean_u[r % K] = n > 0 ? shifts[r] + sum_u[r] * share : 0.0;
        to.m2_u[r % K] = square_u[r] - sum_u[r] * sum_u[r] * share;
        if (r % K == 0) *to.n = n;
    }
    __syncthreads();
}

// Moments of samples begin..end-1 for d factors, the first of which is number j of the tile. alone: there is one, and
// samples where it is missing are left out; otherwise false says that some factor is missing somewhere.
template <int K, bool SPREAD>
__device__ bool accumulate(const Problem& p, const Tile& tile, int j, int d, bool alone, int64_t begin, int64_t end,
                           double* moments, double* totals) {
    double *const shifts = totals + kTotals, *const work = shifts + kShifts;
    const int step = p.plan.step, warp = threadIdx.x / 32;
    const int64_t first = alone ? first_known(p.u, tile.j + j, begin, end, work) : begin;
    set_shifts<K, SPREAD>(p, tile, tile.j + j, d, first, first < end, shifts);
    int64_t start = begin + warp * step;
    WarpSums<K, SPREAD> sums(p.u, p.mean, p.var, tile.j + j, d, tile.z, tile.dz, alone, start, end, step, shifts,
                             work + warp * step * (kPitchU + kPitchC));
    __syncthreads();
    sums.fetch(start);
    for (; start < end; start += kWarps * step) {
        sums.raise_to_powers(start);
        sums.fetch(start + kWarps * step);
        __syncwarp();
        sums.multiply();
        __syncwarp();
    }
    if (__syncthreads_or(sums.missing()) && !alone) return false;
    sums.reduce(work, totals);
    write_moments<K>(tile, j, d, work, totals, shifts, moments);
    return true;
}

// Moments of `count` parts, one every `slot` doubles, together. Two passes, because the means must be known first; the
// other blocks' results are read from the second-level cache, which all share.
template <int K>
__device__ HPCAUXVAE_ONCE void merge_parts(const double* parts, size_t slot, int count, const Tile& tile,
                                           double* moments) {
    const Layout& at = tile.at;
    const int cols = int(at.q);
#pragma unroll 1
    for (int i = threadIdx.x; i < tile.d * cols; i += kThreads) {
        const int j = i / cols, c = i % cols;
        const double *const n_at = parts + at.n() + j, *const u_at = parts + at.mean_u() + j * K;
        const double* const c_at = parts + at.mean_c() + i;
        double n = 0, first_u[K], mean_u[K] = {}, first_c = __ldcg(c_at), mean_c = 0;
        for (int a = 0; a < K; ++a) first_u[a] = __ldcg(u_at + a);
#pragma unroll 4
        for (int part = 0; part < count; ++part) {
            const double weight = __ldcg(n_at + part * slot);
            n += weight;
            mean_c += weight * (__ldcg(c_at + part * slot) - first_c);
            for (int a = 0; a < K; ++a) mean_u[a] += weight * (__ldcg(u_at + part * slot + a) - first_u[a]);
        }
        const double share = n > 0 ? 1 / n : 0;
        mean_c = first_c + mean_c * share;
        for (int a = 0; a < K; ++a) mean_u[a] = first_u[a] + mean_u[a] * share;
        double m2_c = 0, within = 0, m2_u[K] = {}, cross[K] = {};
#pragma unroll 4
        for (int part = 0; part < count; ++part) {
            const double* const from = parts + part * slot;
            const double weight = __ldcg(n_at + part * slot), gap_c = __ldcg(c_at + part * slot) - mean_c;
            m2_c += __ldcg(from + at.m2_c() + i) + weight * gap_c * gap_c;
            within += __ldcg(from + at.within() + i);
            for (int a = 0; a < K; ++a) {
                const double gap_u = __ldcg(u_at + part * slot + a) - mean_u[a];
                cross[a] += __ldcg(from + at.cross() + (j * K + a) * at.q + c) + weight * gap_u * gap_c;
                if (c == 0) m2_u[a] += __ldcg(from + at.m2_u() + j * K + a) + weight * gap_u * gap_u;
            }
        }
        const FactorMoments to = factor(moments, at, j, K);
        to.mean_c[c] = mean_c, to.m2_c[c] = m2_c, to.within[c] = within;
        for (int a = 0; a < K; ++a) to.cross[a * at.q + c] = cross[a];
        if (c > 0) continue;
        *to.n = n;
        for (int a = 0; a < K; ++a) to.mean_u[a] = mean_u[a], to.m2_u[a] = m2_u[a];
    }
    __syncthreads();
}

__device__ HPCAUXVAE_ONCE void publish(const double* mine, size_t size, double* part) {
#pragma unroll 1
    for (size_t i = threadIdx.x; i < size; i += kThreads) part[i] = mine[i];
}

// Copies a tile's moments into the whole, or with `back` from the whole.
template <int K>
__device__ HPCAUXVAE_ONCE void exchange(const Shape& shape, const Tile& tile, bool back, double* mine, double* whole) {
    const Layout all(shape), &at = tile.at;
    const auto copy = [back](double* a, double* b) { back ? *a = *b : *b = *a; };
    const int cols = int(at.q), z = tile.z * K;
#pragma unroll 1
    for (int i = threadIdx.x; i < tile.d * cols; i += kThreads) {
        const int j = i / cols, c = i % cols;
        const FactorMoments a = factor(mine, at, j, K), b = factor(whole, all, tile.j + j, K);
        copy(a.mean_c + c, b.mean_c + z + c), copy(a.m2_c + c, b.m2_c + z + c), copy(a.within + c, b.within + z + c);
        for (int k = 0; k < K; ++k) copy(a.cross + k * at.q + c, b.cross + k * all.q + z + c);
        if (c >= K || (tile.z > 0 && !back)) continue;  // the first tile of a row of tiles writes for all
        copy(a.mean_u + c, b.mean_u + c), copy(a.m2_u + c, b.m2_u + c);
        if (c == 0) copy(a.n, b.n);
    }
    __syncthreads();
}

// Terms and slopes of a tile, from its moments; the last tile adds the terms up.
template <int K>
__device__ HPCAUXVAE_ONCE void finalize_tile(const Problem& p, const Tile& tile, double* moments, double* work) {
    const int d = p.shape.d;
    const Weights weights(d, p.shape.z, K);
    const size_t q = p.shape.q();
    double terms[2] = {};
#pragma unroll 1
    for (int i = threadIdx.x; i < tile.d * tile.dz; i += kThreads) {
        const int j = i / tile.dz, c = i % tile.dz, global_j = tile.j + j, global_c = tile.z + c;
        const double weight = weights.of(global_j, global_c);
        const FactorMoments m = factor(moments, tile.at, j, K);
        double root_u[K], total = 0;
        for (int a = 0; a < K; ++a) root_u[a] = inverse_root(m.m2_u[a], 0, m.mean_u[a], *m.n, a + 1);
#pragma unroll 1
        for (int b = 0; b < K; ++b) {
            const int column = c * K + b;
            const double root_c = inverse_root(m.m2_c[column], m.within[column], m.mean_c[column], *m.n, b + 1);
            double strength = 0;
            for (int a = 0; a < K; ++a) {
                const double scale = root_u[a] * root_c, correlation = m.cross[a * tile.at.q + column] * scale;
                strength += fabs(correlation);
                p.to.slopes[(d + size_t(global_j) * K + a) * q + global_c * K + b] =
                    correlation == 0 ? 0.0 : copysign(weight * scale, correlation * weight);
            }
            total += strength;
            p.to.slopes[global_j * q + global_c * K + b] = -0.5 * weight * strength * root_c * root_c;
        }
        terms[global_c >= d] += weight * total;
    }
    block_sum(terms, work);
    if (p.plan.tiles > 1) {
        const int number = blockIdx.y;
        if (threadIdx.x == 0) p.tile_terms[2 * number] = terms[0], p.tile_terms[2 * number + 1] = terms[1];
        if (!last_of(p.counters, p.plan.tiles)) return;
        terms[0] = terms[1] = 0;
        for (int i = threadIdx.x; i < p.plan.tiles; i += kThreads)
            for (int term = 0; term < 2; ++term) terms[term] += __ldcg(p.tile_terms + 2 * i + term);
        block_sum(terms, work);
    }
    if (threadIdx.x == 0) *p.to.intra = double(d) * K + terms[0], *p.to.inter = terms[1];
}

template <int K, bool SPREAD>
__global__ void __launch_bounds__(kThreads, 3) statistics_kernel(const __grid_constant__ Problem p) {
    HPCAUXVAE_SHARED(double, shared);
    double *const moments = shared, *const totals = moments + p.plan.slot, *const work = totals + kTotals + kShifts;
    const Tile tile(p.shape, p.plan, blockIdx.y);
    const int64_t size = p.shape.n / p.plan.blocks, rest = p.shape.n % p.plan.blocks, block = blockIdx.x;
    const int64_t begin = block * size + (block < rest ? block : rest), end = begin + size + (block < rest);
    bool alone = false;
    for (int j = 0; j < tile.d;) {
        const int d = alone ? 1 : tile.d;
        const bool done = accumulate<K, SPREAD>(p, tile, j, d, alone, begin, end, moments, totals);
        if (done) j += d;
        alone = !done || alone;
    }
    if (p.plan.blocks > 1) {
        const int group = blockIdx.x / kGroup, first = group * kGroup, members = min(kGroup, p.plan.blocks - first);
        unsigned* const counters = p.counters + 1 + blockIdx.y * (p.plan.groups + 1);
        double* const parts = p.parts + (size_t(blockIdx.y) * p.plan.blocks + first) * p.plan.slot;
        double* const groups = p.groups + size_t(blockIdx.y) * p.plan.groups * p.plan.slot;
        publish(moments, tile.at.size(), parts + (blockIdx.x - first) * p.plan.slot);
        if (!last_of(counters + 1 + group, members)) return;
        merge_parts<K>(parts, p.plan.slot, members, tile, moments);
        if (p.plan.groups > 1) {
            publish(moments, tile.at.size(), groups + group * p.plan.slot);
            if (!last_of(counters, p.plan.groups)) return;
            merge_parts<K>(groups, p.plan.slot, p.plan.groups, tile, moments);
        }
    }
    exchange<K>(p.shape, tile, false, moments, p.moments);
    if (p.to.intra) finalize_tile<K>(p, tile, moments, work);
}

template <int K>
__global__ void __launch_bounds__(kThreads) finalize_kernel(const __grid_constant__ Problem p) {
    HPCAUXVAE_SHARED(double, shared);
    const Tile tile(p.shape, p.plan, blockIdx.y);
    exchange<K>(p.shape, tile, true, shared, p.moments);
    finalize_tile<K>(p, tile, shared, shared + p.plan.slot);
}

void clear_counters(const Problem& p, const cuda::Queue& queue) {
    const auto stream = static_cast<cudaStream_t>(queue.stream);
    check(cudaMemsetAsync(p.counters, 0, p.plan.counters() * sizeof(unsigned), stream));
}

}  // namespace

namespace cuda {

size_t workspace_size(const Shape& shape) { return Plan(shape).workspace(); }

void statistics(const Inputs& in, double* workspace, double* moments, const Terms& to, const Queue& queue) {
    const On on(queue);
    const Problem p(in, workspace, moments, to);
    if (p.plan.blocks > 1 || p.plan.tiles > 1) clear_counters(p, queue);
    const dim3 grid(p.plan.blocks, p.plan.tiles);
    for_degree(in.shape.k, [&](auto k) {
        constexpr int K = decltype(k)::value;
        launch(in.var.data ? statistics_kernel<K, true> : statistics_kernel<K, false>, grid, p.plan.shared(K), queue, p);
    });
}

void finalize(const Shape& shape, const double* moments, double* workspace, const Terms& to, const Queue& queue) {
    const On on(queue);
    const Problem p({shape, {}, {}, {}}, workspace, const_cast<double*>(moments), to);
    if (p.plan.tiles > 1) clear_counters(p, queue);
    for_degree(shape.k, [&](auto k) {
        launch(finalize_kernel<decltype(k)::value>, dim3(1, p.plan.tiles), p.plan.slot + 2 * kThreads, queue, p);
    });
}

int device_count() {
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

}  // namespace cuda
}  // namespace hpcauxvae
