// One block of samples in a thread's memory: vectors, conversion from and to the caller's rows, sums. Included by
// moments_simd.cpp alone, in whose unnamed namespace all of it lives.
#pragma once

#include <cstring>

#include "moments.h"

namespace hpcauxvae {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 8, kTileU = 5, kTileC = 5, kRegisters = 32;
#elif defined(__AVX__)
constexpr int kLanes = 4, kTileU = 3, kTileC = 4, kRegisters = 16;
#elif defined(__aarch64__)
constexpr int kLanes = 2, kTileU = 5, kTileC = 5, kRegisters = 32;
#else
constexpr int kLanes = 2, kTileU = 3, kTileC = 4, kRegisters = 16;
#endif
typedef double Vec __attribute__((vector_size(kLanes * sizeof(double)), may_alias));

constexpr int kBlock = 128;         // samples
constexpr int kPitch = kBlock + 8;  // doubles from row to row; not a power of two, which would crowd the cache

inline const Vec& at(const double* p) { return *reinterpret_cast<const Vec*>(p); }
inline Vec& at(double* p) { return *reinterpret_cast<Vec*>(p); }

inline double sum(const Vec& v) {
    double total = 0;
    for (int i = 0; i < kLanes; ++i) total += v[i];
    return total;
}

inline size_t round_up(size_t n, size_t step) { return (n + step - 1) / step * step; }
inline size_t cross_size(size_t p, size_t q) { return round_up(p, kTileU) * round_up(q, kTileC) * kLanes; }

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

template <class T>
void load_as(const Rows& rows, int64_t begin, int count, int columns, double* out) {
    const T* from = static_cast<const T*>(rows.data) + begin * rows.stride;
    for (int i = 0; i < count; ++i, from += rows.stride)
        for (int c = 0; c < columns; ++c) out[c * kPitch + i] = to_double(from[c]);
}

// `count` samples into rows of `length`, the rest zero.
void load(const Rows& rows, int64_t begin, int count, int length, int columns, double* out) {
    if (rows.type == Type::f32) load_as<float>(rows, begin, count, columns, out);
    if (rows.type == Type::f64) load_as<double>(rows, begin, count, columns, out);
    if (rows.type == Type::bf16) load_as<uint16_t>(rows, begin, count, columns, out);
    if (count < length)
        for (int c = 0; c < columns; ++c) std::memset(out + c * kPitch + count, 0, (length - count) * sizeof(double));
}

template <class T>
void store_as(const double* from, int64_t begin, int count, int columns, const OutRows& rows) {
    T* out = static_cast<T*>(rows.data) + begin * rows.stride;
    for (int i = 0; i < count; ++i, out += rows.stride)
        for (int c = 0; c < columns; ++c) from_double(from[c * kPitch + i], out[c]);
}

void store(const double* from, int64_t begin, int count, int columns, const OutRows& rows) {
    if (rows.type == Type::f32) store_as<float>(from, begin, count, columns, rows);
    if (rows.type == Type::f64) store_as<double>(from, begin, count, columns, rows);
    if (rows.type == Type::bf16) store_as<uint16_t>(from, begin, count, columns, rows);
}

// Sums about `shift` over the samples of one group of factors: all of them, or a single one.
struct Sums {
    double n = 0;
    double *shift_u, *shift_c;
    double *sum_u, *square_u, *sum_c, *square_c, *spread, *cross;  // one after the other, `size` doubles in all
    size_t size;
};

// A thread's memory: one block of samples and the sums over many.
struct Workspace {
    double *u, *mean, *var, *weight, *powers_u, *powers_c, *d_mean, *d_var;

    Workspace(const Shape& shape, double* memory) : memory_(memory) {
        u = take(size_t(shape.d) * kPitch);
        mean = take(size_t(shape.z) * kPitch);
        var = take(size_t(shape.z) * kPitch);
        weight = take(size_t(shape.d + 1) * kPitch);
        powers_u = take(round_up(shape.p() + kTileU, kTileU) * kPitch);
        powers_c = take(round_up(shape.q(), kTileC) * kPitch);
        d_mean = take(size_t(shape.z) * kPitch);
        d_var = take(size_t(shape.z) * kPitch);
    }
    Sums sums(size_t p, size_t q) {
        Sums s;
        s.shift_u = take(p), s.shift_c = take(q);
        const size_t start = used_;
        s.sum_u = take(p), s.square_u = take(p);
        s.sum_c = take(q), s.square_c = take(q), s.spread = take(q);
        s.cross = take(cross_size(p, q));
        s.size = used_ - start;
        return s;
    }
    double* take(size_t n) {
        double* const start = memory_ ? memory_ + used_ : nullptr;
        used_ += round_up(n, 8);
        return start;
    }
    size_t used() const { return used_; }

   private:
    double* const memory_;  // null: only counts
    size_t used_ = 0;
};

// Loads a block. weight: D rows of 0 and 1, then a row of 1 for every sample. False: some factor is missing somewhere,
// and the missing values have become 0.
bool load_block(const Shape& shape, const Rows& u, const Rows& mean, const Rows& var, int64_t begin, int count,
                int length, Workspace& w) {
    load(u, begin, count, length, shape.d, w.u);
    load(mean, begin, count, length, shape.z, w.mean);
    if (var.data) load(var, begin, count, length, shape.z, w.var);
    double* const present = w.weight + size_t(shape.d) * kPitch;
    for (int i = 0; i < length; ++i) present[i] = i < count;
    int missing = 0;
    for (int j = 0; j < shape.d; ++j)
        for (int i = 0; i < length; ++i) missing |= w.u[j * kPitch + i] != w.u[j * kPitch + i];
    if (!missing) return true;
    for (int j = 0; j < shape.d; ++j)
        for (int i = 0; i < length; ++i) {
            double& value = w.u[j * kPitch + i];
            w.weight[j * kPitch + i] = value == value ? present[i] : 0.0;
            value = value == value ? value : 0.0;
        }
    return false;
}

}  // namespace
}  // namespace hpcauxvae
