// Register-blocked inner loops. A block of samples is copied into rows, one row per column of the input, so that every
// loop runs over samples in whole vectors; powers are centred on the first sample, and the cross moments are a product
// of two small panels of rows held in registers.
//
// Why the first sample is centre enough: the sums are flushed every kFlush samples, and a sample's distance d from the
// mean of n samples obeys d^2 <= n variance. The cancellation in M2 = sum x^2 - (sum x)^2 / n therefore costs at most
// a factor kFlush in rounding error, 1e-12, and a constant column gives exactly 0.
//
// A block in which a factor is NaN somewhere is treated factor by factor, with weights 0 and 1 for its samples.

#include "moments_simd.h"

#include <cstring>

#include "moments_math.h"
#include "simd_block.h"

namespace hpcauxvae {
namespace {

constexpr int kFlush = 64 * kBlock;  // samples

// powers_u, powers_c: rows u_j^k of d factors and E[z^k]; adds sum of Var(z^k) to `spread`.
template <int K, bool SPREAD>
void raise_to_powers(int d, int z, int length, const double* u, const double* weight, Workspace& w, double* spread) {
    for (int j = 0; j < d; ++j)
        for (int i = 0; i < length; i += kLanes) {
            const Vec x = at(u + j * kPitch + i);
            Vec power = x;
            for (int k = 0; k < K; ++k, power *= x) at(w.powers_u + (j * K + k) * kPitch + i) = power;
        }
    for (int c = 0; c < z; ++c) {
        Vec total[K + 1] = {};
        for (int i = 0; i < length; i += kLanes) {
            Vec m[K + 1], v[K + 1];
            const Vec var = SPREAD ? at(w.var + c * kPitch + i) : Vec{};
            power_means<K, SPREAD>(at(w.mean + c * kPitch + i), var, m);
            for (int k = 1; k <= K; ++k) at(w.powers_c + (c * K + k - 1) * kPitch + i) = m[k];
            if (!SPREAD) continue;
            power_variances<K>(m, var, v);
            for (int k = 1; k <= K; ++k) total[k] += v[k] * at(weight + i);
        }
        if (SPREAD)
            for (int k = 1; k <= K; ++k) spread[c * K + k - 1] += sum(total[k]);
    }
}

// rows = (rows - shift) * weight, and their sums.
void centre(size_t rows, int length, const double* weight, const double* shift, double* values, double* sums,
            double* squares) {
    for (size_t r = 0; r < rows; ++r) {
        Vec total{}, square{};
        for (int i = 0; i < length; i += kLanes) {
            Vec& x = at(values + r * kPitch + i);
            x = (x - shift[r]) * at(weight + i);
            total += x;
            square += x * x;
        }
        sums[r] += sum(total);
        squares[r] += sum(square);
    }
}

// cross[p][q][lane] += a[p] b[q], in tiles.
void multiply(size_t p, size_t q, int length, double* a, double* b, double* cross) {
    const size_t padded_p = round_up(p, kTileU), padded_q = round_up(q, kTileC);
    for (size_t r = p; r < padded_p; ++r) std::memset(a + r * kPitch, 0, length * sizeof(double));
    for (size_t r = q; r < padded_q; ++r) std::memset(b + r * kPitch, 0, length * sizeof(double));
    for (size_t s = 0; s < padded_p; s += kTileU)
        for (size_t t = 0; t < padded_q; t += kTileC, cross += kTileU * kTileC * kLanes) {
            Vec tile[kTileU][kTileC];
            for (int x = 0; x < kTileU; ++x)
                for (int y = 0; y < kTileC; ++y) tile[x][y] = at(cross + (x * kTileC + y) * kLanes);
            for (int i = 0; i < length; i += kLanes)
                for (int y = 0; y < kTileC; ++y) {
                    const Vec right = at(b + (t + y) * kPitch + i);
                    for (int x = 0; x < kTileU; ++x) tile[x][y] += at(a + (s + x) * kPitch + i) * right;
                }
            for (int x = 0; x < kTileU; ++x)
                for (int y = 0; y < kTileC; ++y) at(cross + (x * kTileC + y) * kLanes) = tile[x][y];
        }
}

// Adds the block in the workspace to the sums over d factors, whose rows are u.
template <int K, bool SPREAD>
void accumulate(int d, int z, int length, const double* u, const double* weight, Workspace& w, Sums& s) {
    const size_t p = size_t(d) * K, q = size_t(z) * K;
    int first = 0;
    while (first < length && weight[first] == 0) ++first;
    if (first == length) return;
    const bool fresh = s.n == 0;
    if (fresh) std::memset(s.sum_u, 0, s.size * sizeof(double));
    raise_to_powers<K, SPREAD>(d, z, length, u, weight, w, s.spread);
    if (fresh) {
        for (size_t r = 0; r < p; ++r) s.shift_u[r] = w.powers_u[r * kPitch + first];
        for (size_t r = 0; r < q; ++r) s.shift_c[r] = w.powers_c[r * kPitch + first];
    }
    centre(p, length, weight, s.shift_u, w.powers_u, s.sum_u, s.square_u);
    centre(q, length, weight, s.shift_c, w.powers_c, s.sum_c, s.square_c);
    multiply(p, q, length, w.powers_u, w.powers_c, s.cross);
    for (int i = 0; i < length; ++i) s.n += weight[i];
}

// Moves the sums of d factors, the first of which is number j, into the moments.
template <int K>
void flush(int j, int d, size_t q, Sums& s, const Layout& layout, double* part, double* moments) {
    if (s.n == 0) return;
    const size_t tiles = round_up(q, kTileC) / kTileC;
    for (int f = 0; f < d; ++f) {
        const FactorMoments to = factor(part, layout, j + f, K);
        *to.n = s.n;
        for (int k = 0; k < K; ++k) {
            const size_t r = size_t(f) * K + k;
            to.mean_u[k] = s.shift_u[r] + s.sum_u[r] / s.n;
            to.m2_u[k] = s.square_u[r] - s.sum_u[r] * s.sum_u[r] / s.n;
            for (size_t c = 0; c < q; ++c) {
                const size_t tile = r / kTileU * tiles + c / kTileC;
                const size_t inside = r % kTileU * kTileC + c % kTileC;
                const double* lanes = s.cross + (tile * kTileU * kTileC + inside) * kLanes;
                to.cross[k * q + c] = sum(at(lanes)) - s.sum_u[r] * s.sum_c[c] / s.n;
            }
        }
        for (size_t c = 0; c < q; ++c) {
            to.mean_c[c] = s.shift_c[c] + s.sum_c[c] / s.n;
            to.m2_c[c] = s.square_c[c] - s.sum_c[c] * s.sum_c[c] / s.n;
            to.within[c] = s.spread[c];
        }
        merge(factor(moments, layout, j + f, K), to, K, q);
    }
    s.n = 0;
}

template <int K, bool SPREAD>
void statistics_of(const Shape& shape, const Rows& u, const Rows& mean, const Rows& var, int64_t begin, int64_t end,
                   double* memory, double* moments) {
    Workspace w(shape, memory);
    const Layout layout(shape);
    double* const part = w.take(layout.size());
    Sums together = w.sums(shape.p(), shape.q());
    Sums* const alone = reinterpret_cast<Sums*>(w.take(shape.d * (sizeof(Sums) / sizeof(double) + 1)));
    for (int j = 0; j < shape.d; ++j) alone[j] = w.sums(K, shape.q());
    std::memset(moments, 0, layout.size() * sizeof(double));
    for (int64_t start = begin; start < end;) {
        const int64_t stop = end - start < kFlush ? end : start + kFlush;
        for (; start < stop; start += kBlock) {
            const int count = stop - start < kBlock ? int(stop - start) : kBlock;
            const int length = int(round_up(count, kLanes));
            if (load_block(shape, u, mean, var, start, count, length, w))
                accumulate<K, SPREAD>(shape.d, shape.z, length, w.u, w.weight + shape.d * kPitch, w, together);
            else
                for (int j = 0; j < shape.d; ++j)
                    accumulate<K, SPREAD>(1, shape.z, length, w.u + j * kPitch, w.weight + j * kPitch, w, alone[j]);
        }
        start = stop;
        flush<K>(0, shape.d, layout.q, together, layout, part, moments);
        for (int j = 0; j < shape.d; ++j) flush<K>(j, 1, layout.q, alone[j], layout, part, moments);
    }
}

// What the gradient needs of d factors with one set of weights: d loss / d c_q = slope_q (c_q - centre_q) + offset_q
// + sum over p of cross_pq (u_p - mean_p).
struct Slopes {
    int d;
    const double *u, *weight, *mean_u, *cross, *centre_c;
    const double *within, *offset;  // (Z, K); slope = 2 within. offset null: 0.
};

constexpr int kMostWide = 4;  // vectors of samples that the gradient holds at once; `length` is a multiple

template <int K, bool SPREAD>
void add_gradient(int z, int length, const Slopes& s, Workspace& w) {
    constexpr int kWide = K <= 3 || kRegisters == 32 ? kMostWide : kMostWide / 2;
    const size_t p = size_t(s.d) * K, q = size_t(z) * K;
    for (int j = 0; j < s.d; ++j)
        for (int i = 0; i < length; i += kLanes) {
            const Vec x = at(s.u + j * kPitch + i);
            Vec power = x;
            for (int k = 0; k < K; ++k, power *= x)
                at(w.powers_u + (j * K + k) * kPitch + i) = power - s.mean_u[j * K + k];
        }
    for (int c = 0; c < z; ++c)
        for (int i = 0; i < length; i += kLanes * kWide) {
            Vec total[K][kWide] = {};
            for (size_t r = 0; r < p; ++r) {
                const double* const slope = s.cross + r * q + size_t(c) * K;
                for (int k = 0; k < K; ++k)
                    for (int x = 0; x < kWide; ++x)
                        total[k][x] += at(w.powers_u + r * kPitch + i + x * kLanes) * slope[k];
            }
#pragma GCC unroll 4
            for (int x = 0; x < kWide; ++x) {
                const int n = c * kPitch + i + x * kLanes;
                const Vec weight = at(s.weight + i + x * kLanes), var = SPREAD ? at(w.var + n) : Vec{};
                Vec m[K + 1], in_c[K + 1], in_v[K + 1], d_mean, d_var;
                power_means<K, SPREAD>(at(w.mean + n), var, m);
                for (int k = 1; k <= K; ++k) {
                    const size_t b = size_t(c) * K + k - 1;
                    in_c[k] = total[k - 1][x] + (m[k] - s.centre_c[b]) * (2 * s.within[b]);
                    if (s.offset) in_c[k] += s.offset[b];
                    in_c[k] *= weight;
                    in_v[k] = weight * s.within[b];
                }
                chain<K, SPREAD>(m, var, in_c, in_v, d_mean, d_var);
                at(w.d_mean + n) += d_mean;
                if (SPREAD) at(w.d_var + n) += d_var;
            }
        }
}

template <int K, bool SPREAD>
void gradient_of(const Shape& shape, const Rows& u, const Rows& mean, const Rows& var, const double* moments,
                 const double* slopes, int64_t begin, int64_t end, double* memory, const OutRows& d_mean,
                 const OutRows& d_var) {
    Workspace w(shape, memory);
    const Layout layout(shape);
    const size_t q = layout.q;
    const double *mean_u = moments + layout.mean_u(), *mean_c = moments + layout.mean_c();
    const double* const cross = slopes + shape.d * q;
    double *within = w.take(q), *offset = w.take(q);
    for (size_t b = 0; b < q; ++b) within[b] = offset[b] = 0;
    for (int j = 0; j < shape.d; ++j)
        for (size_t b = 0; b < q; ++b) {
            within[b] += slopes[j * q + b];
            offset[b] += 2 * slopes[j * q + b] * (mean_c[b] - mean_c[j * q + b]);
        }
    for (int64_t start = begin; start < end; start += kBlock) {
        const int count = end - start < kBlock ? int(end - start) : kBlock;
        const int length = int(round_up(count, kLanes * kMostWide));
        const bool complete = load_block(shape, u, mean, var, start, count, length, w);
        for (int c = 0; c < shape.z; ++c) {
            std::memset(w.d_mean + c * kPitch, 0, length * sizeof(double));
            std::memset(w.d_var + c * kPitch, 0, length * sizeof(double));
        }
        if (complete)
            add_gradient<K, SPREAD>(
                shape.z, length,
                {shape.d, w.u, w.weight + shape.d * kPitch, mean_u, cross, mean_c, within, offset}, w);
        else
            for (int j = 0; j < shape.d; ++j)
                add_gradient<K, SPREAD>(shape.z, length,
                                        {1, w.u + j * kPitch, w.weight + j * kPitch, mean_u + j * K,
                                         cross + j * K * q, mean_c + j * q, slopes + j * q, nullptr},
                                        w);
        store(w.d_mean, start, count, shape.z, d_mean);
        if (SPREAD) store(w.d_var, start, count, shape.z, d_var);
    }
}

size_t workspace_size(const Shape& shape) {
    Workspace w(shape, nullptr);
    w.take(Layout(shape).size());
    w.sums(shape.p(), shape.q());
    w.take(shape.d * (sizeof(Sums) / sizeof(double) + 1));
    for (int j = 0; j < shape.d; ++j) w.sums(shape.k, shape.q());
    return w.used();
}

#define HPCAUXVAE_FOR_DEGREE(call)                    \
    switch (shape.k) {                                \
        case 1: var.data ? call(1, true) : call(1, false); break; \
        case 2: var.data ? call(2, true) : call(2, false); break; \
        case 3: var.data ? call(3, true) : call(3, false); break; \
        case 4: var.data ? call(4, true) : call(4, false); break; \
        case 5: var.data ? call(5, true) : call(5, false); break; \
        case 6: var.data ? call(6, true) : call(6, false); break; \
    }

void statistics_pass(const Shape& shape, const Rows& u, const Rows& mean, const Rows& var, int64_t begin, int64_t end,
                     double* workspace, double* moments) {
#define HPCAUXVAE_CALL(K, SPREAD) statistics_of<K, SPREAD>(shape, u, mean, var, begin, end, workspace, moments)
    HPCAUXVAE_FOR_DEGREE(HPCAUXVAE_CALL)
#undef HPCAUXVAE_CALL
}

void gradient_pass(const Shape& shape, const Rows& u, const Rows& mean, const Rows& var, const double* moments,
                   const double* slopes, int64_t begin, int64_t end, double* workspace, const OutRows& d_mean,
                   const OutRows& d_var) {
#define HPCAUXVAE_CALL(K, SPREAD) \
    gradient_of<K, SPREAD>(shape, u, mean, var, moments, slopes, begin, end, workspace, d_mean, d_var)
    HPCAUXVAE_FOR_DEGREE(HPCAUXVAE_CALL)
#undef HPCAUXVAE_CALL
}

}  // namespace

#define HPCAUXVAE_PASTE_(a, b) a##b
#define HPCAUXVAE_PASTE(a, b) HPCAUXVAE_PASTE_(a, b)
#define HPCAUXVAE_QUOTE_(a) #a
#define HPCAUXVAE_QUOTE(a) HPCAUXVAE_QUOTE_(a)

const Passes HPCAUXVAE_PASTE(passes_, HPCAUXVAE_VARIANT) = {HPCAUXVAE_QUOTE(HPCAUXVAE_VARIANT), workspace_size,
                                                            statistics_pass, gradient_pass};

}  // namespace hpcauxvae
