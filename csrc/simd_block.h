// One block of samples in a thread's memory: vectors, conversion from and to the caller's rows, and columns with their
// powers, as deviations from the powers of an origin. Included by moments_simd.cpp alone, in whose unnamed namespace all
// of it lives.
//
// Real is the type of the panels: float for float32 and bfloat16 codes, double for float64.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "moments_math.h"

namespace hpcauxvae {
namespace {

#if defined(__AVX512F__)
constexpr int kBytes = 64, kTileU = 5, kTileC = 5, kRegisters = 32;
#elif defined(__AVX__)
constexpr int kBytes = 32, kTileU = 3, kTileC = 4, kRegisters = 16;
#elif defined(__aarch64__)
constexpr int kBytes = 16, kTileU = 5, kTileC = 5, kRegisters = 32;
#else
constexpr int kBytes = 16, kTileU = 3, kTileC = 4, kRegisters = 16;
#endif
typedef float FloatVec __attribute__((vector_size(kBytes), may_alias));
typedef double DoubleVec __attribute__((vector_size(kBytes), may_alias));
typedef float NarrowVec __attribute__((vector_size(kBytes / 2), may_alias));  // as many lanes as a DoubleVec

template <class Real>
struct Lanes;
template <>
struct Lanes<float> {
    typedef FloatVec Vec;
    typedef NarrowVec Converted;
};
template <>
struct Lanes<double> {
    typedef DoubleVec Vec;
    typedef DoubleVec Converted;
};
template <class Real>
using VecOf = typename Lanes<Real>::Vec;
template <class Real>
constexpr int kLanes = kBytes / sizeof(Real);

constexpr int kRowBytes = 2048;
constexpr int kMostWide = 4;  // vectors of samples that the gradient holds at once
template <class Real>
constexpr int kBlock = kRowBytes / sizeof(Real);  // samples

template <class Real>
inline const VecOf<Real>& at(const Real* p) {
    return *reinterpret_cast<const VecOf<Real>*>(p);
}
template <class Real>
inline VecOf<Real>& at(Real* p) {
    return *reinterpret_cast<VecOf<Real>*>(p);
}

template <class Real>
using Quad __attribute__((vector_size(4 * sizeof(Real)))) = Real;

template <class Real>
inline Quad<Real> quad(const void* from) {
    Quad<Real> four;
    std::memcpy(&four, from, sizeof four);
    return four;
}

// Element by element: a vector whose address is taken would live in memory, also in the loop before.
template <class Real>
inline double sum_of(const VecOf<Real>& v) {
    if constexpr (kLanes<Real> < 4) {
        return double(v[0]) + v[1];
    } else {
        Quad<Real> four{};
#pragma GCC unroll 4
        for (int i = 0; i < kLanes<Real>; i += 4) four += Quad<Real>{v[i], v[i + 1], v[i + 2], v[i + 3]};
        return (double(four[0]) + four[1]) + (double(four[2]) + four[3]);
    }
}

inline size_t round_up(size_t n, size_t step) { return (n + step - 1) / step * step; }

inline double to_double(double x) { return x; }
inline double to_double(float x) { return x; }
inline double to_double(uint16_t x) {
    const uint32_t bits = uint32_t(x) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
inline void from_double(double x, double& out) { out = x; }
inline void from_double(double x, float& out) { out = float(x); }
inline void from_double(double x, uint16_t& out) {  // round to nearest, ties to even
    const float value = float(x);
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    out = x != x ? 0x7fc0 : uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Four of the eight elements of a and b.
template <class T, int I, int J, int K, int L>
inline Quad<T> pick(Quad<T> a, Quad<T> b) {
#if defined(__clang__) || __GNUC__ >= 12
    return __builtin_shufflevector(a, b, I, J, K, L);
#else
    const auto one = [&](int i) { return i < 4 ? a[i] : b[i - 4]; };
    return Quad<T>{one(I), one(J), one(K), one(L)};
#endif
}

template <class T>
inline void transpose(Quad<T> (&r)[4]) {
    const Quad<T> a = pick<T, 0, 4, 1, 5>(r[0], r[1]), b = pick<T, 2, 6, 3, 7>(r[0], r[1]);
    const Quad<T> c = pick<T, 0, 4, 1, 5>(r[2], r[3]), d = pick<T, 2, 6, 3, 7>(r[2], r[3]);
    r[0] = pick<T, 0, 1, 4, 5>(a, c), r[1] = pick<T, 2, 3, 6, 7>(a, c);
    r[2] = pick<T, 0, 1, 4, 5>(b, d), r[3] = pick<T, 2, 3, 6, 7>(b, d);
}

// Four samples by four columns at a time. Where the columns are no multiple of four the last ones are taken twice.
template <class T, class Real>
int load_quads(const T* from, int64_t stride, int count, int columns, Real* out, int pitch) {
    int i = 0;
    for (; columns >= 4 && i + 4 <= count; i += 4, from += 4 * stride) {
        for (int x = 0; x < 4; ++x) __builtin_prefetch(from + (kBlock<Real> + x) * stride);  // the next block
        for (int next = 0; next < columns; next += 4) {
            const int c = std::min(next, columns - 4);
            Quad<T> r[4];
            for (int x = 0; x < 4; ++x) r[x] = quad<T>(from + x * stride + c);
            transpose<T>(r);
            for (int x = 0; x < 4; ++x) {
                const Quad<Real> row = __builtin_convertvector(r[x], Quad<Real>);
                std::memcpy(out + (c + x) * pitch + i, &row, sizeof row);
            }
        }
    }
    return i;
}

template <class T, class Real>
int store_quads(const Real* from, int count, int columns, T* out, int64_t stride, int pitch) {
    int i = 0;
    for (; columns >= 4 && i + 4 <= count; i += 4, out += 4 * stride)
        for (int next = 0; next < columns; next += 4) {
            const int c = std::min(next, columns - 4);
            Quad<T> r[4];
            for (int x = 0; x < 4; ++x)
                r[x] = __builtin_convertvector(quad<Real>(from + (c + x) * pitch + i), Quad<T>);
            transpose<T>(r);
            for (int x = 0; x < 4; ++x) std::memcpy(out + x * stride + c, &r[x], sizeof r[x]);
        }
    return i;
}

// call(a number of that type; uint16_t for bfloat16).
template <class Call>
void for_type(Type type, const Call& call) {
    if (type == Type::f32) call(float{});
    if (type == Type::f64) call(double{});
    if (type == Type::bf16) call(uint16_t{});
}

// `count` samples into rows of `length`, the rest zero.
template <class Real>
void load(const Rows& rows, int64_t begin, int count, int length, int columns, Real* out, int pitch) {
    for_type(rows.type, [&](auto type) {
        using T = decltype(type);
        const T* const from = static_cast<const T*>(rows.data) + begin * rows.stride;
        int i = 0;
        if constexpr (sizeof(T) >= sizeof(float)) i = load_quads(from, rows.stride, count, columns, out, pitch);
        for (; i < count; ++i)
            for (int c = 0; c < columns; ++c) out[c * pitch + i] = Real(to_double(from[i * rows.stride + c]));
    });
    if (count < length)
        for (int c = 0; c < columns; ++c) std::memset(out + c * pitch + count, 0, (length - count) * sizeof(Real));
}

template <class Real>
void store(const Real* from, int64_t begin, int count, int columns, const OutRows& rows, int pitch) {
    for_type(rows.type, [&](auto type) {
        using T = decltype(type);
        T* const out = static_cast<T*>(rows.data) + begin * rows.stride;
        int i = 0;
        if constexpr (sizeof(T) >= sizeof(float)) i = store_quads(from, count, columns, out, rows.stride, pitch);
        for (; i < count; ++i)
            for (int c = 0; c < columns; ++c) from_double(from[c * pitch + i], out[i * rows.stride + c]);
    });
}

// Hands out a thread's memory, 64-byte aligned.
class Arena {
   public:
    explicit Arena(double* memory) : memory_(reinterpret_cast<char*>(memory)) {}
    template <class T>
    T* take(size_t n) {
        char* const start = memory_ ? memory_ + used_ : nullptr;
        used_ += round_up(n * sizeof(T), 64);
        return reinterpret_cast<T*>(start);
    }
    size_t doubles() const { return used_ / sizeof(double); }

   private:
    char* const memory_;  // null: only counts
    size_t used_ = 0;
};

// A block of samples, one row per column of the input, and the rows of powers made of it.
template <class Real>
struct Block {
    int pitch;  // numbers from row to row: no more than needed, and not a power of two, which would crowd the cache
    double *u, *weight_u;  // (D), (D + 1): a row of 0 and 1 per factor, then one of 1 for every sample
    double* deviations;    // (K)
    Real *mean, *var, *weight;
    Real *powers_u, *powers_c, *d_mean, *d_var;

    Block(const Shape& shape, Arena& arena)
        : pitch(int(round_up(std::min<int64_t>(shape.n, kBlock<Real>), kMostWide * kLanes<Real>)) + 16) {
        const size_t d = shape.d, z = shape.z, row = pitch;
        u = arena.take<double>(d * row), weight_u = arena.take<double>((d + 1) * row);
        deviations = arena.take<double>(shape.k * row);
        mean = arena.take<Real>(z * row), var = arena.take<Real>(z * row), weight = arena.take<Real>(row);
        powers_u = arena.take<Real>(round_up(shape.p(), kTileU) * row);
        powers_c = arena.take<Real>(round_up(shape.q(), kTileC) * row);
        d_mean = arena.take<Real>(z * row), d_var = arena.take<Real>(z * row);
    }

    // False: some factor is missing somewhere, and the missing values have become 0.
    bool read(const Inputs& in, int64_t begin, int count, int length) {
        const Shape& shape = in.shape;
        load(in.u, begin, count, length, shape.d, u, pitch);
        load(in.mean, begin, count, length, shape.z, mean, pitch);
        if (in.var.data) load(in.var, begin, count, length, shape.z, var, pitch);
        double* const present = weight_u + size_t(shape.d) * pitch;
        for (int i = 0; i < length; ++i) present[i] = i < count;
        int missing = 0;
        for (int j = 0; j < shape.d; ++j)
            for (int i = 0; i < length; ++i) missing |= u[j * pitch + i] != u[j * pitch + i];
        if (!missing) return true;
        for (int j = 0; j < shape.d; ++j)
            for (int i = 0; i < length; ++i) {
                double& value = u[j * pitch + i];
                weight_u[j * pitch + i] = value == value ? present[i] : 0.0;
                value = value == value ? value : 0.0;
            }
        return false;
    }
};

// A column in a unit of its own, a power of two, and about an origin: scaled mean and variance near the samples'.
template <int K, class Real>
struct Column {
    Real scale, mean, var;
    Real power[K + 1];  // E[z^k] at the origin
};

// Power of two that brings `size` near 1.
inline double unit(double size) {
    if (!(size > 0 && size < 1e300)) return 1;  // zero, or not finite: no unit mends that
    int exponent;
    std::frexp(size, &exponent);
    return std::ldexp(1.0, std::clamp(-exponent, -60, 60));
}

template <int K, bool SPREAD, class Real>
Column<K, Real> column_at(double scale, double mean, double var) {
    Column<K, Real> column;
    column.scale = Real(scale), column.mean = Real(scale * mean), column.var = Real(scale * scale * var);
    power_means<K, SPREAD>(column.mean, column.var, column.power);
    return column;
}

template <class Vec>
inline Vec magnitude(Vec v) {
    using Bits = decltype(v < v);
    return (Vec)((Bits)v & std::numeric_limits<typename ScalarOf<Bits>::type>::max());
}

// Mean of a row, and the order of its largest values.
struct Extent {
    double mean, size;
};

template <class Real>
Extent extent(const Real* row, const Real* weight, int first, int length, double n) {
    const Real start = row[first];
    VecOf<Real> total{}, distance{};
    for (int i = 0; i < length; i += kLanes<Real>) {
        const VecOf<Real> gap = (at(row + i) - start) * at(weight + i);
        total += gap;
        distance += magnitude(gap);
    }
    return {start + sum_of<Real>(total) / n, std::abs(double(start)) + 8 * sum_of<Real>(distance) / n};
}

inline DoubleVec widened(const double* p) { return at(p); }
inline DoubleVec widened(const float* p) {
    return __builtin_convertvector(*reinterpret_cast<const NarrowVec*>(p), DoubleVec);
}

template <class Real>
inline void put(Real* to, DoubleVec v) {
    using Converted = typename Lanes<Real>::Converted;
    *reinterpret_cast<Converted*>(to) = __builtin_convertvector(v, Converted);
}

// Rows of E[x^1]..E[x^K] less their means over the n samples of weight 1, in the column's unit; 0 elsewhere. In double
// until they are centred, because a power may vary much less than the values do: the square of values near a and -a.
template <int K, bool SPREAD, class From, class Real>
void raise(const Column<K, double>& of, const From* x, const From* s, const double* weight, double n, int length,
           const Block<Real>& block, Real* rows, double* means, double* squares) {
    const Column<K, double> column = of;  // a copy, which the stores below cannot change
    const int pitch = block.pitch;
    double* const deviations = block.deviations;
    DoubleVec total[K + 1] = {};
    for (int i = 0; i < length; i += kLanes<double>) {
        const DoubleVec w = at(weight + i), mean = widened(x + i) * column.scale, gap = (mean - column.mean) * w;
        const DoubleVec var = SPREAD ? widened(s + i) * column.scale * column.scale : DoubleVec{};
        DoubleVec out[K + 1];
        power_deviations<K, SPREAD>(mean, gap, var, (var - column.var) * w, column.power, out);
        for (int k = 1; k <= K; ++k) {
            total[k] += out[k];
            at(deviations + (k - 1) * pitch + i) = out[k];
        }
    }
    for (int k = 1; k <= K; ++k) {
        const double mean = sum_of<double>(total[k]) / n;
        DoubleVec square{};
        for (int i = 0; i < length; i += kLanes<double>) {
            const DoubleVec centred = (at(deviations + (k - 1) * pitch + i) - mean) * at(weight + i);
            square += centred * centred;
            put(rows + (k - 1) * pitch + i, centred);
        }
        means[k - 1] = column.power[k] + mean;
        squares[k - 1] = sum_of<double>(square);
    }
}

// Sums of Var(z^1)..Var(z^K) over the samples of weight 1, in the column's unit.
template <int K, class Real>
void add_spread(Real scale, const Real* z, const Real* s, const Real* weight, int length, double* sums) {
    using Vec = VecOf<Real>;
    Vec total[K + 1] = {};
    for (int i = 0; i < length; i += kLanes<Real>) {
        const Vec var = at(s + i) * scale * scale;
        Vec m[K + 1], v[K + 1];
        power_means<K, true>(at(z + i) * scale, var, m);
        power_variances<K>(m, var, v);
        for (int k = 1; k <= K; ++k) total[k] += v[k] * at(weight + i);
    }
    for (int k = 1; k <= K; ++k) sums[k - 1] = sum_of<Real>(total[k]);
}

// Rows of x^k - mean of x^k for the gradient: deviations from the origin, and the origin's from the mean.
template <int K, class Real>
void lower_factor(const Column<K, double>& of, const double* x, const double* shift, int length, Real* rows,
                  int pitch) {
    const Column<K, double> column = of;
    for (int i = 0; i < length; i += kLanes<double>) {
        const DoubleVec value = at(x + i) * column.scale;
        DoubleVec out[K + 1];
        power_deviations<K, false>(value, value - column.mean, DoubleVec{}, DoubleVec{}, column.power, out);
        for (int k = 1; k <= K; ++k) put(rows + (k - 1) * pitch + i, out[k] + shift[k - 1]);
    }
}

}  // namespace
}  // namespace hpcauxvae
