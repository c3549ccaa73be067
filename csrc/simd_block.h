// One block of samples in a thread's memory: vectors, conversion from and to the caller's rows, sums. Included by
// moments_simd.cpp alone, in whose unnamed namespace all of it lives.
//
// Real is the type of the panels: float for float32 and bfloat16 codes, double for float64.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "moments.h"

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

template <class T, class Real>
void load_as(const Rows& rows, int64_t begin, int count, int columns, Real* out, int pitch) {
    const T* const from = static_cast<const T*>(rows.data) + begin * rows.stride;
    int i = 0;
    if constexpr (sizeof(T) >= sizeof(float)) i = load_quads(from, rows.stride, count, columns, out, pitch);
    for (; i < count; ++i)
        for (int c = 0; c < columns; ++c) out[c * pitch + i] = Real(to_double(from[i * rows.stride + c]));
}

// `count` samples into rows of `length`, the rest zero.
template <class Real>
void load(const Rows& rows, int64_t begin, int count, int length, int columns, Real* out, int pitch) {
    if (rows.type == Type::f32) load_as<float>(rows, begin, count, columns, out, pitch);
    if (rows.type == Type::f64) load_as<double>(rows, begin, count, columns, out, pitch);
    if (rows.type == Type::bf16) load_as<uint16_t>(rows, begin, count, columns, out, pitch);
    if (count < length)
        for (int c = 0; c < columns; ++c) std::memset(out + c * pitch + count, 0, (length - count) * sizeof(Real));
}

template <class T, class Real>
void store_as(const Real* from, int64_t begin, int count, int columns, const OutRows& rows, int pitch) {
    T* const out = static_cast<T*>(rows.data) + begin * rows.stride;
    int i = 0;
    if constexpr (sizeof(T) >= sizeof(float)) i = store_quads(from, count, columns, out, rows.stride, pitch);
    for (; i < count; ++i)
        for (int c = 0; c < columns; ++c) from_double(from[c * pitch + i], out[i * rows.stride + c]);
}

template <class Real>
void store(const Real* from, int64_t begin, int count, int columns, const OutRows& rows, int pitch) {
    if (rows.type == Type::f32) store_as<float>(from, begin, count, columns, rows, pitch);
    if (rows.type == Type::f64) store_as<double>(from, begin, count, columns, rows, pitch);
    if (rows.type == Type::bf16) store_as<uint16_t>(from, begin, count, columns, rows, pitch);
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
    bool read(const Shape& shape, const Rows& u_rows, const Rows& mean_rows, const Rows& var_rows, int64_t begin,
              int count, int length) {
        load(u_rows, begin, count, length, shape.d, u, pitch);
        load(mean_rows, begin, count, length, shape.z, mean, pitch);
        if (var_rows.data) load(var_rows, begin, count, length, shape.z, var, pitch);
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

}  // namespace
}  // namespace hpcauxvae
