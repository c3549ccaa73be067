// The two passes with vectors. A block of samples is copied into rows, one row per column of the input, so that every
// loop runs over samples in whole vectors; the cross moments are a product of two small panels of rows, held in
// registers over the block, and blocks are merged in double.
//
// Why float panels keep the promise of 1e-5 for float32 codes: the powers are made in double and centred on their means
// over the block before they are rounded; a sum has at most kBlock / lanes terms per lane; and columns are scaled by
// powers of two, so that no power leaves the range. The gradient is made in float from deviations (power_deviations),
// which have the relative accuracy of a float even where the mean is 1e4 standard deviations.
//
// A block in which a factor is NaN somewhere is treated factor by factor, with weights 0 and 1 for its samples.

#include "moments_simd.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "moments_math.h"
#include "simd_block.h"

namespace hpcauxvae {
namespace {

// Of one block and one group of factors (all of them, or a single one): sums of products of the rows, and what brings
// the powers back to the caller's units.
struct Sums {
    double *back_u, *back_c, *cross;

    Sums(size_t p, size_t q, Arena& arena)
        : back_u(arena.take<double>(p)), back_c(arena.take<double>(q)), cross(arena.take<double>(p * q)) {}
};

// cross[p][q] = sum over samples of a[p] b[q], in tiles.
template <class Real>
void multiply(size_t p, size_t q, int length, Real* a, Real* b, int pitch, double* cross) {
    const size_t padded_p = round_up(p, kTileU), padded_q = round_up(q, kTileC);
    for (size_t r = p; r < padded_p; ++r) std::memset(a + r * pitch, 0, length * sizeof(Real));
    for (size_t r = q; r < padded_q; ++r) std::memset(b + r * pitch, 0, length * sizeof(Real));
    for (size_t t = 0; t < padded_q; t += kTileC)
        for (size_t s = 0; s < padded_p; s += kTileU) {
            VecOf<Real> tile[kTileU][kTileC] = {};
            for (int i = 0; i < length; i += kLanes<Real>)
                for (int y = 0; y < kTileC; ++y) {
                    const VecOf<Real> right = at(b + (t + y) * pitch + i);
                    for (int x = 0; x < kTileU; ++x) tile[x][y] += at(a + (s + x) * pitch + i) * right;
                }
            for (int x = 0; x < kTileU; ++x)
                for (int y = 0; y < kTileC; ++y)
                    if (s + x < p && t + y < q) cross[(s + x) * q + t + y] = sum_of<Real>(tile[x][y]);
        }
}

// Means, squares and spread of K powers of one column over the n samples of weight 1, the first of which is `first`, and
// their rows; back: what brings each power back to the caller's units. s, spread: of codes that have variances.
template <int K, bool SPREAD, class From, class Real>
void measure(const From* x, const From* s, const From* weight_x, const double* weight, int first, int length, double n,
             const Block<Real>& block, Real* rows, double* means, double* squares, double* spread, double* back) {
    const Extent mean = extent(x, weight_x, first, length, n);
    const Extent var = SPREAD ? extent(s, weight_x, first, length, n) : Extent{0, 0};
    const double scale = unit(std::max(mean.size, std::sqrt(var.size)));
    raise<K, SPREAD>(column_at<K, SPREAD, double>(scale, mean.mean, var.mean), x, s, weight, n, length, block, rows,
                     means, squares);
    if constexpr (SPREAD) add_spread<K>(Real(scale), x, s, weight_x, length, spread);
    double inverse = 1;
    for (int k = 0; k < K; ++k) {
        back[k] = inverse /= scale;
        means[k] *= inverse;
        squares[k] *= inverse * inverse;
        if (spread) spread[k] = SPREAD ? spread[k] * inverse * inverse : 0;
    }
}

// Merges a block's d factors, the first of which is number j, into the moments; `part` has room for their own.
template <int K, bool SPREAD, class Real>
void accumulate(const Shape& shape, int j, int d, int length, Block<Real>& block, const double* weight,
                const Sums& sums, double* part, double* moments) {
    double n = 0;
    for (int i = 0; i < length; ++i) n += weight[i];
    if (n == 0) return;
    for (int i = 0; i < length; ++i) block.weight[i] = Real(weight[i]);
    const int first = int(std::find(weight, weight + length, 1.0) - weight);
    const Layout layout(shape);
    const size_t q = layout.q;
    const FactorMoments codes = factor(part, layout, j, K);
    for (size_t c = 0; c < size_t(shape.z); ++c)
        measure<K, SPREAD>(block.mean + c * block.pitch, block.var + c * block.pitch, block.weight, weight, first, length,
                           n, block, block.powers_c + c * K * block.pitch, codes.mean_c + c * K, codes.m2_c + c * K,
                           codes.within + c * K, sums.back_c + c * K);
    for (int f = 0; f < d; ++f) {
        const FactorMoments own = factor(part, layout, j + f, K);
        const double* const x = block.u + (j + f) * block.pitch;
        measure<K, false>(x, x, weight, weight, first, length, n, block, block.powers_u + f * K * block.pitch,
                          own.mean_u, own.m2_u, nullptr, sums.back_u + f * K);
        *own.n = n;
    }
    multiply(size_t(d) * K, q, length, block.powers_u, block.powers_c, block.pitch, sums.cross);
    for (int f = 0; f < d; ++f) {
        FactorMoments from = factor(part, layout, j + f, K);
        for (int k = 0; k < K; ++k) {
            const size_t r = size_t(f) * K + k;
            for (size_t b = 0; b < q; ++b)
                from.cross[k * q + b] = sums.cross[r * q + b] * (sums.back_u[r] * sums.back_c[b]);
        }
        from.mean_c = codes.mean_c, from.m2_c = codes.m2_c, from.within = codes.within;
        merge(factor(moments, layout, j + f, K), from, K, q);
    }
}

template <int K, bool SPREAD, class Real>
void statistics_of(const Inputs& in, int64_t begin, int64_t end, Arena& arena, double* moments) {
    const Shape& shape = in.shape;
    const Layout layout(shape);
    Block<Real> block(shape, arena);
    double* const part = arena.take<double>(layout.size());
    const Sums sums(layout.p, layout.q, arena);
    std::memset(moments, 0, layout.size() * sizeof(double));
    for (int64_t start = begin; start < end; start += kBlock<Real>) {
        const int count = int(std::min<int64_t>(end - start, kBlock<Real>));
        const int length = int(round_up(count, kLanes<Real>));
        const bool complete = block.read(in, start, count, length);
        const double* const all = block.weight_u + shape.d * block.pitch;
        if (complete) accumulate<K, SPREAD>(shape, 0, shape.d, length, block, all, sums, part, moments);
        for (int j = 0; !complete && j < shape.d; ++j)
            accumulate<K, SPREAD>(shape, j, 1, length, block, block.weight_u + j * block.pitch, sums, part, moments);
    }
}

// What the gradient needs of a group of factors, the first of which is number j, in the units of the columns:
// d loss / d c_q = twice_q (deviation_q) + constant_q + sum over p of cross_pq (u_p - mean_p), and within_q is
// d loss / d Var_q.
template <int K, class Real>
struct Slopes {
    int j, d;
    Column<K, double>* columns_u;
    Column<K, Real>* columns_c;
    double* shift_u;  // of the origin from the mean
    Real *cross, *twice, *constant, *within;

    Slopes(const Shape& shape, int j, int d, Arena& arena) : j(j), d(d) {
        const size_t q = shape.q(), p = size_t(d) * K;
        columns_u = arena.take<Column<K, double>>(d), columns_c = arena.take<Column<K, Real>>(shape.z);
        shift_u = arena.take<double>(p), cross = arena.take<Real>(p * q);
        twice = arena.take<Real>(q), constant = arena.take<Real>(q), within = arena.take<Real>(q);
    }
};

// `slopes` as finalize has them, times the upstream gradients.
template <int K, bool SPREAD, class Real>
void prepare(const Shape& shape, const double* moments, const double* slopes, const Slopes<K, Real>& s) {
    const Layout layout(shape);
    const size_t q = layout.q;
    const double *n = moments + layout.n(), *mean_c = moments + layout.mean_c(), *m2_c = moments + layout.m2_c();
    const double *mean_u = moments + layout.mean_u(), *m2_u = moments + layout.m2_u();
    const double* const within = moments + layout.within();
    const double* const cross = slopes + shape.d * q;
    for (int f = 0; f < s.d; ++f) {
        const int j = s.j + f;
        const double mean = mean_u[j * K], count = std::max(n[j], 1.0);
        s.columns_u[f] = column_at<K, false, double>(unit(std::sqrt(mean * mean + m2_u[j * K] / count)), mean, 0);
        double scale = 1;
        for (int k = 0; k < K; ++k) {
            scale *= s.columns_u[f].scale;
            s.shift_u[f * K + k] = s.columns_u[f].power[k + 1] - scale * mean_u[j * K + k];
        }
    }
    for (int c = 0; c < shape.z; ++c) {
        const size_t at = s.j * q + size_t(c) * K;
        const double mean = mean_c[at], count = std::max(n[s.j], 1.0), var = within[at] / count;
        const double scale = unit(std::sqrt(mean * mean + m2_c[at] / count + var));
        const Column<K, Real> column = s.columns_c[c] = column_at<K, SPREAD, Real>(scale, mean, var);
        double origin[K + 1], back = 1;
        power_means<K, SPREAD>(double(column.mean), double(column.var), origin);
        for (int k = 0; k < K; ++k) {
            const size_t b = size_t(c) * K + k;
            back /= scale;
            double slope = 0, constant = 0;
            for (int f = 0; f < s.d; ++f) {
                const double one = slopes[(s.j + f) * q + b] * back * back;
                slope += one;
                constant += 2 * one * (origin[k + 1] - mean_c[(s.j + f) * q + b] / back);
                double unit_u = 1;
                for (int a = 0; a < K; ++a) {
                    unit_u /= s.columns_u[f].scale;
                    const size_t r = size_t(f) * K + a;
                    s.cross[r * q + b] = Real(cross[(size_t(s.j) * K + r) * q + b] * back * unit_u);
                }
            }
            s.within[b] = Real(slope), s.twice[b] = Real(2 * slope), s.constant[b] = Real(constant);
        }
    }
}

// `length` is a multiple of kMostWide vectors.
template <int K, bool SPREAD, class Real>
void add_gradient(const Shape& shape, int length, const Slopes<K, Real>& s, Block<Real>& block, const Real* weight) {
    using Vec = VecOf<Real>;
    constexpr int kWide = K <= 3 || kRegisters == 32 ? kMostWide : kMostWide / 2;
    const int pitch = block.pitch;
    const size_t p = size_t(s.d) * K, q = shape.q();
    const Real *const powers_u = block.powers_u, *const cross = s.cross;
    for (int f = 0; f < s.d; ++f)
        lower_factor(s.columns_u[f], block.u + (s.j + f) * pitch, s.shift_u + f * K, length,
                     block.powers_u + size_t(f) * K * pitch, pitch);
    for (int c = 0; c < shape.z; ++c) {
        const Column<K, Real> column = s.columns_c[c];
        const size_t b = size_t(c) * K;
        Real within[K + 1];
        std::copy_n(s.within + b, K, within + 1);
        for (int i = 0; i < length; i += kLanes<Real> * kWide) {
            Vec total[K][kWide];
            for (int k = 0; k < K; ++k)
                for (int x = 0; x < kWide; ++x) total[k][x] = Vec{} + s.constant[b + k];
            for (size_t r = 0; r < p; ++r) {
                const Real* const slope = cross + r * q + b;
                for (int k = 0; k < K; ++k)
                    for (int x = 0; x < kWide; ++x)
                        total[k][x] += at(powers_u + r * pitch + i + x * kLanes<Real>) * slope[k];
            }
#pragma GCC unroll 4
            for (int x = 0; x < kWide; ++x) {
                const int n = c * pitch + i + x * kLanes<Real>;
                const Vec mean = at(block.mean + n) * column.scale, w = at(weight + i + x * kLanes<Real>);
                const Vec var = SPREAD ? at(block.var + n) * column.scale * column.scale : Vec{};
                Vec out[K + 1], m[K + 1], in_c[K + 1], d_mean, d_var;
                power_deviations<K, SPREAD>(mean, mean - column.mean, var, var - column.var, column.power, out);
                for (int k = 1; k <= K; ++k) in_c[k] = total[k - 1][x] + out[k] * s.twice[b + k - 1];
                power_means<K, SPREAD>(mean, var, m);
                chain<K, SPREAD>(m, var, in_c, within, d_mean, d_var);
                at(block.d_mean + n) += d_mean * (w * column.scale);
                if (SPREAD) at(block.d_var + n) += d_var * (w * column.scale) * column.scale;
            }
        }
    }
}

template <int K, bool SPREAD, class Real>
void gradient_of(const Inputs& in, const double* moments, const double* slopes, int64_t begin, int64_t end,
                 Arena& arena, const Gradients& to) {
    const Shape& shape = in.shape;
    Block<Real> block(shape, arena);
    const Slopes<K, Real> together(shape, 0, shape.d, arena), alone(shape, 0, 1, arena);
    prepare<K, SPREAD>(shape, moments, slopes, together);
    for (int64_t start = begin; start < end; start += kBlock<Real>) {
        const int count = int(std::min<int64_t>(end - start, kBlock<Real>));
        const int length = int(round_up(count, kLanes<Real> * kMostWide));
        const bool complete = block.read(in, start, count, length);
        for (int c = 0; c < shape.z; ++c) {
            std::memset(block.d_mean + c * block.pitch, 0, length * sizeof(Real));
            if (SPREAD) std::memset(block.d_var + c * block.pitch, 0, length * sizeof(Real));
        }
        std::fill_n(block.weight, length, Real(1));
        if (complete) add_gradient<K, SPREAD>(shape, length, together, block, block.weight);
        for (int j = 0; !complete && j < shape.d; ++j) {
            Slopes<K, Real> one = alone;
            one.j = j;
            prepare<K, SPREAD>(shape, moments, slopes, one);
            std::copy_n(block.weight_u + j * block.pitch, length, block.weight);
            add_gradient<K, SPREAD>(shape, length, one, block, block.weight);
        }
        store(block.d_mean, start, count, shape.z, to.mean, block.pitch);
        if (SPREAD) store(block.d_var, start, count, shape.z, to.var, block.pitch);
    }
}

template <class Real>
size_t workspace_of(const Shape& shape) {
    Arena arena(nullptr);
    Block<Real> block(shape, arena);
    arena.take<double>(Layout(shape).size());
    const Sums sums(shape.p(), shape.q(), arena);
    const Slopes<kMaxDegree, Real> together(shape, 0, shape.d, arena), alone(shape, 0, 1, arena);
    return arena.doubles();
}

size_t workspace_size(const Shape& shape) { return std::max(workspace_of<float>(shape), workspace_of<double>(shape)); }

// call(K, whether there are variances, a Real) for the degree and the types at hand.
template <class Call>
void choose(const Inputs& in, const Call& call) {
    const bool wide = in.mean.type == Type::f64 || (in.var.data && in.var.type == Type::f64);
    for_degree(in.shape.k, [&](auto degree) {
        if (in.var.data)
            wide ? call(degree, std::true_type{}, double{}) : call(degree, std::true_type{}, float{});
        else
            wide ? call(degree, std::false_type{}, double{}) : call(degree, std::false_type{}, float{});
    });
}

void statistics_pass(const Inputs& in, int64_t begin, int64_t end, double* workspace, double* moments) {
    Arena arena(workspace);
    choose(in, [&](auto degree, auto spread, auto real) {
        statistics_of<degree(), spread(), decltype(real)>(in, begin, end, arena, moments);
    });
}

void gradient_pass(const Inputs& in, const double* moments, const double* slopes, int64_t begin, int64_t end,
                   double* workspace, const Gradients& to) {
    Arena arena(workspace);
    choose(in, [&](auto degree, auto spread, auto real) {
        gradient_of<degree(), spread(), decltype(real)>(in, moments, slopes, begin, end, arena, to);
    });
}

}  // namespace

#define HPCAUXVAE_PASTE_(a, b) a##b
#define HPCAUXVAE_PASTE(a, b) HPCAUXVAE_PASTE_(a, b)
#define HPCAUXVAE_QUOTE_(a) #a
#define HPCAUXVAE_QUOTE(a) HPCAUXVAE_QUOTE_(a)

const Passes HPCAUXVAE_PASTE(passes_, HPCAUXVAE_VARIANT) = {HPCAUXVAE_QUOTE(HPCAUXVAE_VARIANT), workspace_size,
                                                            statistics_pass, gradient_pass};

}  // namespace hpcauxvae
