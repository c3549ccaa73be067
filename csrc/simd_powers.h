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

// Rows of the deviations of x^1..x^K from the powers of the column's origin.
template <int K, class Real>
void raise_factor(const Column<K, double>& column, const double* x, const double* weight, int length, Real* rows,
                  int pitch, double* sums, double* squares) {
    DoubleVec total[K + 1] = {}, square[K + 1] = {};
    for (int i = 0; i < length; i += kLanes<double>) {
        const DoubleVec value = at(x + i) * column.scale, gap = (value - column.mean) * at(weight + i);
        DoubleVec out[K + 1];
        power_deviations<K, false>(value, gap, DoubleVec{}, DoubleVec{}, column.power, out);
        for (int k = 1; k <= K; ++k) {
            total[k] += out[k];
            square[k] += out[k] * out[k];
            using Converted = typename Lanes<Real>::Converted;
            *reinterpret_cast<Converted*>(rows + (k - 1) * pitch + i) = __builtin_convertvector(out[k], Converted);
        }
    }
    for (int k = 1; k <= K; ++k) sums[k - 1] = sum_of<double>(total[k]), squares[k - 1] = sum_of<double>(square[k]);
}

// Rows of x^k - mean of x^k for the gradient: deviations from the origin, and the origin's from the mean.
template <int K, class Real>
void lower_factor(const Column<K, double>& column, const double* x, const double* shift, int length, Real* rows,
                  int pitch) {
    using Converted = typename Lanes<Real>::Converted;
    for (int i = 0; i < length; i += kLanes<double>) {
        const DoubleVec value = at(x + i) * column.scale;
        DoubleVec out[K + 1];
        power_deviations<K, false>(value, value - column.mean, DoubleVec{}, DoubleVec{}, column.power, out);
        for (int k = 1; k <= K; ++k)
            *reinterpret_cast<Converted*>(rows + (k - 1) * pitch + i) =
                __builtin_convertvector(out[k] + shift[k - 1], Converted);
    }
}

// The same of E[z^1]..E[z^K]; spread: sums of Var(z^k).
template <int K, bool SPREAD, class Real>
void raise_code(const Column<K, Real>& column, const Real* z, const Real* s, const Real* weight, int length, Real* rows,
                int pitch, double* sums, double* squares, double* spread) {
    using Vec = VecOf<Real>;
    Vec total[K + 1] = {}, square[K + 1] = {}, within[K + 1] = {};
    for (int i = 0; i < length; i += kLanes<Real>) {
        const Vec w = at(weight + i), mean = at(z + i) * column.scale, gap = (mean - column.mean) * w;
        const Vec var = SPREAD ? at(s + i) * column.scale * column.scale : Vec{};
        Vec out[K + 1];
        power_deviations<K, SPREAD>(mean, gap, var, (var - column.var) * w, column.power, out);
        for (int k = 1; k <= K; ++k) {
            total[k] += out[k];
            square[k] += out[k] * out[k];
            at(rows + (k - 1) * pitch + i) = out[k];
        }
        if (!SPREAD) continue;
        Vec m[K + 1], v[K + 1];
        power_means<K, SPREAD>(mean, var, m);
        power_variances<K>(m, var, v);
        for (int k = 1; k <= K; ++k) within[k] += v[k] * w;
    }
    for (int k = 1; k <= K; ++k) {
        sums[k - 1] = sum_of<Real>(total[k]), squares[k - 1] = sum_of<Real>(square[k]);
        if (SPREAD) spread[k - 1] = sum_of<Real>(within[k]);
    }
}

}  // namespace
}  // namespace hpcauxvae
