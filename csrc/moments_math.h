// The formulas of moments.h that several translation units need. All functions have internal linkage: the units are
// compiled for different instruction sets, and the linker must not let one unit run another's copy.
#pragma once

#include <cmath>
#include <type_traits>
#include <utility>

#include "moments.h"

namespace hpcauxvae {

// call(K) with the degree as a compile-time constant.
template <class Call>
static void for_degree(int k, const Call& call) {
    switch (k) {
        case 1: return call(std::integral_constant<int, 1>());
        case 2: return call(std::integral_constant<int, 2>());
        case 3: return call(std::integral_constant<int, 3>());
        case 4: return call(std::integral_constant<int, 4>());
        case 5: return call(std::integral_constant<int, 5>());
        case 6: return call(std::integral_constant<int, 6>());
    }
}

// i! C(k, i)^2, the weights in Var(z^k).
HPCAUXVAE_HD static constexpr double spread_weight(int k, int i) {
#ifdef __CUDACC__  // which does not turn the loop into constants
    constexpr double weights[kMaxDegree][kMaxDegree] = {
        {1}, {4, 2}, {9, 18, 6}, {16, 72, 96, 24}, {25, 200, 600, 600, 120}, {36, 450, 2400, 5400, 4320, 720}};
    return weights[k - 1][i - 1];
#else
    double weight = 1;
    for (int j = 0; j < i; ++j) weight *= double(k - j) * (k - j) / (j + 1);
    return weight;
#endif
}

// The element of a vector, or the number itself.
template <class T, class = void>
struct ScalarOf {
    using type = T;
};
template <class T>
struct ScalarOf<T, std::void_t<decltype(std::declval<T&>()[0])>> {
    using type = std::decay_t<decltype(std::declval<T&>()[0])>;
};

// m[k] = E[z^k], k = 0..K, of z ~ N(mean, var). T is a number or a vector of them.
template <int K, bool SPREAD, class T>
HPCAUXVAE_HD static inline void power_means(T mean, T var, T (&m)[K + 1]) {
    using S = typename ScalarOf<T>::type;
    m[0] = T{} + S(1);
    m[1] = mean;
    for (int k = 2; k <= K; ++k) {
        m[k] = mean * m[k - 1];
        if (SPREAD) m[k] += var * m[k - 2] * S(k - 1);
    }
}

// m[k] - at[k], k = 0..K, where at[k] = E[z^k] of N(mean - t, var - e): as accurate as t and e themselves, which the
// difference of two powers is not where the mean is many standard deviations.
template <int K, bool SPREAD, class T, class S>
HPCAUXVAE_HD static inline void power_deviations(T mean, T t, T var, T e, const S (&at)[K + 1], T (&out)[K + 1]) {
    out[0] = T{};
    out[1] = t;
    for (int k = 2; k <= K; ++k) {
        out[k] = mean * out[k - 1] + t * at[k - 1];
        if (SPREAD) out[k] += (var * out[k - 2] + e * at[k - 2]) * S(k - 1);
    }
}

// v[k] = Var(z^k), k = 1..K.
template <int K, class T>
HPCAUXVAE_HD static inline void power_variances(const T (&m)[K + 1], T var, T (&v)[K + 1]) {
    using S = typename ScalarOf<T>::type;
    for (int k = 1; k <= K; ++k) {
        v[k] = T{} + S(spread_weight(k, k));
        for (int i = k - 1; i >= 1; --i) v[k] = v[k] * var + m[k - i] * m[k - i] * S(spread_weight(k, i));
        v[k] *= var;
    }
}

// Chain rule from slopes in E[z^k] (c) and in Var(z^k) (v), k = 1..K, to slopes in mean and var.
// d E[z^k] / d mean = k E[z^(k-1)], d E[z^k] / d var = k (k-1)/2 E[z^(k-2)]; the sum over k of v_k Var(z^k) is
// differentiated as a polynomial in var, whose coefficients are products of two moments.
template <int K, bool SPREAD, class T, class V>
HPCAUXVAE_HD static inline void chain(const T (&m)[K + 1], T var, const T (&c)[K + 1], const V (&v)[K + 1], T& d_mean,
                                      T& d_var) {
    using S = typename ScalarOf<T>::type;
    d_mean = c[1];
    d_var = T{};
    for (int k = 2; k <= K; ++k) d_mean += c[k] * m[k - 1] * S(k);
    if (!SPREAD) return;
    for (int k = 2; k <= K; ++k) d_var += c[k] * m[k - 2] * S(0.5 * k * (k - 1));
    T in_mean{}, in_var{}, curved{};  // sums over powers var^i, the first and the last without one factor var
    for (int i = K; i >= 1; --i) {
        in_mean *= var, in_var *= var, curved *= var;
        for (int r = 0; r <= K - i; ++r) {
            const V slope = v[i + r] * S(spread_weight(i + r, i));
            in_var += m[r] * m[r] * (slope * S(i));
            if (r >= 1) in_mean += m[r] * m[r - 1] * (slope * S(2 * r));
            if (r >= 2) curved += m[r] * m[r - 2] * (slope * S(r * (r - 1)));
        }
    }
    d_mean += in_mean * var;
    d_var += in_var + curved * var;
}

// 1 / sqrt(m2 + within), or 0 where m2 is no more than the rounding error of its accumulation. The second bound, on the
// standard deviation of the k-th power, keeps the gradient of collapsed columns within float32 and m2 out of the
// subnormals.
HPCAUXVAE_HD static inline double inverse_root(double m2, double within, double mean, double n, int k) {
    const double rounding = 16 * 2.220446049250313e-16 * mean;
    const double floors[kMaxDegree] = {1e-60, 1e-120, 1e-180, 1e-240, 1e-290, 1e-290};
    const double smallest = floors[k - 1] > rounding * rounding ? floors[k - 1] : rounding * rounding;
    return m2 <= n * smallest ? 0.0 : 1 / std::sqrt(m2 + within);
}

// What a strength, the sum of |correlations| of factor j and latent c, weighs in its term of (9).
struct Weights {
    int d;
    double own, other, residual;

    HPCAUXVAE_HD Weights(int d, int z, int k)
        : d(d), own(-1.0 / k), other(d > 1 ? 1.0 / (k * (d - 1.0)) : 0.0),
          residual(z > d ? 1.0 / (double(k) * d * (z - d)) : 0.0) {}
    HPCAUXVAE_HD double of(int j, int c) const { return c >= d ? residual : c == j ? own : other; }
};

// Moments of one factor over one set of samples: K powers of u, q = Z K columns of codes.
struct FactorMoments {
    double* n;
    double *mean_u, *mean_c, *within, *m2_u, *m2_c, *cross;
};

HPCAUXVAE_HD static inline FactorMoments factor(double* moments, const Layout& at, int j, int k) {
    return {moments + at.n() + j,
            moments + at.mean_u() + size_t(j) * k,
            moments + at.mean_c() + j * at.q,
            moments + at.within() + j * at.q,
            moments + at.m2_u() + size_t(j) * k,
            moments + at.m2_c() + j * at.q,
            moments + at.cross() + size_t(j) * k * at.q};
}

// total += part: the pairwise update of Chan, Golub and LeVeque (1983).
static inline void merge(const FactorMoments& total, const FactorMoments& part, int k, size_t q) {
    const double n = *total.n + *part.n;
    if (*part.n == 0) return;
    const double share = *part.n / n, weight = *total.n * share;
    for (int a = 0; a < k; ++a) {
        const double gap = weight * (part.mean_u[a] - total.mean_u[a]);
        double *to = total.cross + a * q, *from = part.cross + a * q;
        for (size_t b = 0; b < q; ++b) to[b] += from[b] + gap * (part.mean_c[b] - total.mean_c[b]);
    }
    for (int a = 0; a < k; ++a) {
        const double gap = part.mean_u[a] - total.mean_u[a];
        total.mean_u[a] += gap * share;
        total.m2_u[a] += part.m2_u[a] + gap * gap * weight;
    }
    for (size_t b = 0; b < q; ++b) {
        const double gap = part.mean_c[b] - total.mean_c[b];
        total.mean_c[b] += gap * share;
        total.m2_c[b] += part.m2_c[b] + gap * gap * weight;
        total.within[b] += part.within[b];
    }
    *total.n = n;
}

}  // namespace hpcauxvae
