// Columns and their powers: a unit and an origin for each, and rows of deviations from the powers of the origin.
// Included by moments_simd.cpp alone.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "moments_math.h"
#include "simd_block.h"

namespace hpcauxvae {
namespace {

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
