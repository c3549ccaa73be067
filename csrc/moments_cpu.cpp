// Moments on CPUs: which instruction set, how many threads, and the small step between the two passes.

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "moments_math.h"
#include "moments_simd.h"

namespace hpcauxvae {
namespace {

// The samples are cut into this many parts, merged in order: the same bits for every number of threads.
constexpr int kParts = 16;
// Multiply-adds below which starting threads costs more than it gives.
constexpr double kWorthThreads = 2e7;

// Those that this machine can run, the best one first.
std::vector<const Passes*> supported() {
    std::vector<const Passes*> all;
#ifdef HPCAUXVAE_X86_VARIANTS
    if (__builtin_cpu_supports("x86-64-v4")) all.push_back(&passes_x86_64_v4);
    if (__builtin_cpu_supports("x86-64-v3")) all.push_back(&passes_x86_64_v3);
#endif
    all.push_back(&passes_baseline);
    return all;
}

std::atomic<const Passes*> chosen{supported().front()};

const Passes& passes() { return *chosen; }

// Grows and stays: a step of training asks for the same memory every time.
double* scratch(size_t doubles) {
    struct Free {
        void operator()(double* memory) const { std::free(memory); }
    };
    thread_local std::unique_ptr<double, Free> memory;
    thread_local size_t capacity = 0;
    if (doubles > capacity) {
        capacity = 0;
        memory.reset(static_cast<double*>(std::aligned_alloc(64, (doubles * sizeof(double) + 63) / 64 * 64)));
        if (!memory) throw std::bad_alloc();
        capacity = doubles;
    }
    return memory.get();
}

// Asks for huge pages where a large array has not been touched yet: zeroing it in small ones costs as much as the whole
// gradient. A hint, which the system may refuse.
void expect_writes(const Shape& shape, const OutRows& rows) {
#ifdef __linux__
    constexpr uintptr_t kSmallest = 8 << 20, kPage = 4096;
    if (!rows.data || rows.stride != shape.z) return;
    const uintptr_t bytes = shape.n * shape.z * (rows.type == Type::f64 ? 8 : rows.type == Type::f32 ? 4 : 2);
    const uintptr_t begin = (reinterpret_cast<uintptr_t>(rows.data) + kPage - 1) / kPage * kPage;
    if (bytes >= kSmallest) madvise(reinterpret_cast<void*>(begin), (bytes - kPage) / kPage * kPage, MADV_HUGEPAGE);
#endif
}

struct Plan {
    int parts = 1, threads = 1;

    Plan(const Shape& shape, int allowed) {
        if (double(shape.n) * shape.p() * shape.q() < kWorthThreads) return;
        parts = kParts;
        threads = std::clamp(allowed, 1, kParts);
    }
    int64_t begin(int64_t n, int part) const { return n / parts * part + std::min<int64_t>(part, n % parts); }
};

// work(part, memory of its thread) for every part.
template <class Work>
void run(const Plan& plan, size_t doubles, const Work& work) {
    std::vector<std::unique_ptr<double[]>> memory(plan.threads - 1);
    for (auto& one : memory) one.reset(new double[doubles + 8]);
    const auto share = [&](int thread, double* own) {
        for (int part = thread; part < plan.parts; part += plan.threads) work(part, own);
    };
    std::vector<std::thread> threads;
    for (int t = 1; t < plan.threads; ++t) {
        const auto address = reinterpret_cast<uintptr_t>(memory[t - 1].get());
        const auto aligned = reinterpret_cast<double*>((address + 63) / 64 * 64);
        try {
            threads.emplace_back(share, t, aligned);
        } catch (const std::system_error&) {  // no more threads to be had here
            share(t, aligned);
        }
    }
    share(0, scratch(doubles));
    for (auto& thread : threads) thread.join();
}

}  // namespace

const char* instruction_set() { return passes().name; }

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
    for (const Passes* one : supported()) names.push_back(one->name);
    return names;
}

bool use_instruction_set(const std::string& name) {
    for (const Passes* one : supported())
        if (one->name == name) {
            chosen = one;
            return true;
        }
    return false;
}

void statistics(const Shape& shape, const Rows& u, const Rows& mean, const Rows& var, int threads, double* moments) {
    const Passes& pass = passes();
    const Plan plan(shape, threads);
    const Layout layout(shape);
    std::vector<double> rest(layout.size() * (plan.parts - 1));
    const auto result = [&](int part) { return part == 0 ? moments : &rest[layout.size() * (part - 1)]; };
    run(plan, pass.workspace(shape), [&](int part, double* memory) {
        pass.statistics(shape, u, mean, var, plan.begin(shape.n, part), plan.begin(shape.n, part + 1), memory,
                        result(part));
    });
    for (int part = 1; part < plan.parts; ++part)
        for (int j = 0; j < shape.d; ++j)
            merge(factor(moments, layout, j, shape.k), factor(result(part), layout, j, shape.k), shape.k, layout.q);
}

void finalize(const Shape& shape, const double* moments, double* intra, double* inter, double* slopes) {
    const Layout layout(shape);
    const int d = shape.d, z = shape.z, k = shape.k;
    const size_t q = layout.q;
    const double *n = moments + layout.n(), *mean_u = moments + layout.mean_u(), *m2_u = moments + layout.m2_u();
    const double *mean_c = moments + layout.mean_c(), *m2_c = moments + layout.m2_c();
    const double *within = moments + layout.within(), *cross = moments + layout.cross();
    double *slope_total = slopes, *slope_cross = slopes + d * q;
    const double own = -1.0 / k, other = d > 1 ? 1.0 / (k * (d - 1.0)) : 0.0;
    const double residual = z > d ? 1.0 / (double(k) * d * (z - d)) : 0.0;
    *intra = double(d) * k;
    *inter = 0;
    for (int j = 0; j < d; ++j) {
        double root_u[kMaxDegree];
        for (int a = 0; a < k; ++a) root_u[a] = inverse_root(m2_u[j * k + a], 0, mean_u[j * k + a], n[j], a + 1);
        for (int c = 0; c < z; ++c) {
            const double weight = c >= d ? residual : c == j ? own : other;
            double* const term = c < d ? intra : inter;
            for (int b = 0; b < k; ++b) {
                const size_t column = size_t(c) * k + b, at = j * q + column;
                const double root_c = inverse_root(m2_c[at], within[at], mean_c[at], n[j], b + 1);
                double strength = 0;
                for (int a = 0; a < k; ++a) {
                    const size_t pair = (size_t(j) * k + a) * q + column;
                    const double scale = root_u[a] * root_c, correlation = cross[pair] * scale;
                    strength += std::abs(correlation);
                    slope_cross[pair] = correlation == 0 ? 0.0 : std::copysign(weight * scale, correlation * weight);
                }
                *term += weight * strength;
                slope_total[at] = -0.5 * weight * strength * root_c * root_c;
            }
        }
    }
}

void gradient(const Shape& shape, const Rows& u, const Rows& mean, const Rows& var, const double* moments,
              const double* slopes, double scale_intra, double scale_inter, int threads, const OutRows& d_mean,
              const OutRows& d_var) {
    const Passes& pass = passes();
    const Plan plan(shape, threads);
    const size_t q = shape.q(), aux = shape.p();
    std::vector<double> scaled(slopes_size(shape));
    for (const OutRows& rows : {d_mean, d_var}) expect_writes(shape, rows);
    for (size_t row = 0; row < shape.d + shape.p(); ++row)
        for (size_t column = 0; column < q; ++column)
            scaled[row * q + column] = slopes[row * q + column] * (column < aux ? scale_intra : scale_inter);
    run(plan, pass.workspace(shape), [&](int part, double* memory) {
        pass.gradient(shape, u, mean, var, moments, scaled.data(), plan.begin(shape.n, part),
                      plan.begin(shape.n, part + 1), memory, d_mean, d_var);
    });
}

}  // namespace hpcauxvae
