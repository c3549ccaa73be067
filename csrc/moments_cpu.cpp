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

// Those that this machine can run, the best first.
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

struct Free {
    void operator()(double* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<double, Free>;

Memory aligned(size_t doubles) {
    Memory memory(static_cast<double*>(std::aligned_alloc(64, (doubles * sizeof(double) + 63) / 64 * 64)));
    if (!memory) throw std::bad_alloc();
    return memory;
}

// Grows and stays: a step of training asks for the same memory every time.
double* scratch(size_t doubles) {
    thread_local Memory memory;
    thread_local size_t capacity = 0;
    if (doubles > capacity) {
        capacity = 0;
        memory = aligned(doubles);
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
    const uintptr_t bytes = shape.n * shape.z * size_of(rows.type);
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
    std::vector<Memory> memory;
    for (int t = 1; t < plan.threads; ++t) memory.push_back(aligned(doubles));
    const auto share = [&](int thread, double* own) {
        for (int part = thread; part < plan.parts; part += plan.threads) work(part, own);
    };
    std::vector<std::thread> threads;
    for (int t = 1; t < plan.threads; ++t) {
        double* const own = memory[t - 1].get();
        try {
            threads.emplace_back(share, t, own);
        } catch (const std::system_error&) {  // no more threads to be had here
            share(t, own);
        }
    }
    share(0, scratch(doubles));
    for (auto& thread : threads) thread.join();
}

}  // namespace

const char* instruction_set() { return chosen.load()->name; }

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
    for (const Passes* set : supported()) names.push_back(set->name);
    return names;
}

bool use_instruction_set(const std::string& name) {
    for (const Passes* set : supported())
        if (set->name == name) {
            chosen = set;
            return true;
        }
    return false;
}

void statistics(const Inputs& in, int threads, double* moments) {
    const Passes& pass = *chosen;
    const Shape& shape = in.shape;
    const Plan plan(shape, threads);
    const Layout layout(shape);
    std::vector<double> rest(layout.size() * (plan.parts - 1));
    const auto result = [&](int part) { return part == 0 ? moments : &rest[layout.size() * (part - 1)]; };
    run(plan, pass.workspace(shape), [&](int part, double* memory) {
        pass.statistics(in, plan.begin(shape.n, part), plan.begin(shape.n, part + 1), memory, result(part));
    });
    for (int part = 1; part < plan.parts; ++part)
        for (int j = 0; j < shape.d; ++j)
            merge(factor(moments, layout, j, shape.k), factor(result(part), layout, j, shape.k), shape.k, layout.q);
}

void finalize(const Shape& shape, const double* moments, const Terms& to) {
    const Layout layout(shape);
    const int d = shape.d, k = shape.k;
    const size_t q = layout.q;
    const double *n = moments + layout.n(), *mean_u = moments + layout.mean_u(), *m2_u = moments + layout.m2_u();
    const double *mean_c = moments + layout.mean_c(), *m2_c = moments + layout.m2_c();
    const double *within = moments + layout.within(), *cross = moments + layout.cross();
    double *slope_total = to.slopes, *slope_cross = to.slopes + d * q;
    const Weights weights(d, shape.z, k);
    *to.intra = double(d) * k;
    *to.inter = 0;
    for (int j = 0; j < d; ++j) {
        double root_u[kMaxDegree];
        for (int a = 0; a < k; ++a) root_u[a] = inverse_root(m2_u[j * k + a], 0, mean_u[j * k + a], n[j], a + 1);
        for (int c = 0; c < shape.z; ++c) {
            const double weight = weights.of(j, c);
            double* const term = c < d ? to.intra : to.inter;
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

void gradient(const Inputs& in, const double* moments, const double* slopes, double scale_intra, double scale_inter,
              int threads, const Gradients& to) {
    const Passes& pass = *chosen;
    const Shape& shape = in.shape;
    const Plan plan(shape, threads);
    const size_t q = shape.q(), aux = shape.p();
    std::vector<double> scaled(slopes_size(shape));
    for (const OutRows& rows : {to.mean, to.var}) expect_writes(shape, rows);
    for (size_t row = 0; row < shape.d + shape.p(); ++row)
        for (size_t column = 0; column < q; ++column)
            scaled[row * q + column] = slopes[row * q + column] * (column < aux ? scale_intra : scale_inter);
    run(plan, pass.workspace(shape), [&](int part, double* memory) {
        pass.gradient(in, moments, scaled.data(), plan.begin(shape.n, part), plan.begin(shape.n, part + 1), memory, to);
    });
}

}  // namespace hpcauxvae
