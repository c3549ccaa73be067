// The passes on CPUs and the CUDA kernels on CPU threads, on the same samples: the results must agree. For sanitizers.
//
//     passes [barrier | store]        with that fault planted

#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "cuda_on_host.h"
#include "moments.h"

using namespace hpcauxvae;

namespace {

struct Samples {
    Shape shape;
    std::vector<float> u, mean, var;

    Samples(const Shape& s, double missing) : shape(s), u(s.n * s.d), mean(s.n * s.z), var(s.n * s.z) {
        std::mt19937 random(7);
        std::uniform_real_distribution<float> uniform;
        std::normal_distribution<float> normal;
        for (auto& x : u) x = uniform(random) < missing ? NAN : 3 + uniform(random);
        for (auto& x : mean) x = normal(random);
        for (auto& x : var) x = uniform(random);
        for (int64_t i = 0; i < s.n; ++i)
            if (!std::isnan(u[i * s.d])) mean[i * s.z] += u[i * s.d];
    }
    Rows rows(const std::vector<float>& of, int columns) const { return {of.data(), columns, Type::f32}; }
};

struct Results {
    std::vector<double> moments, slopes, d_mean, d_var;
    double intra = 0, inter = 0;

    explicit Results(const Shape& s)
        : moments(Layout(s).size()), slopes(slopes_size(s)), d_mean(s.n * s.z), d_var(s.n * s.z) {}
    Terms terms() { return {&intra, &inter, slopes.data()}; }
    Gradients gradients(int columns, bool spread) {
        return {{d_mean.data(), columns, Type::f64}, {spread ? d_var.data() : nullptr, columns, Type::f64}};
    }
};

Results on_cpu(const Samples& in, const Rows& u, const Rows& mean, const Rows& var) {
    Results out(in.shape);
    const Inputs inputs{in.shape, u, mean, var};
    statistics(inputs, 3, out.moments.data());
    finalize(in.shape, out.moments.data(), out.terms());
    gradient(inputs, out.moments.data(), out.slopes.data(), 0.7, 1.3, 3, out.gradients(in.shape.z, var.data));
    return out;
}

Results with_cuda(const Samples& in, const Rows& u, const Rows& mean, const Rows& var, bool in_one) {
    Results out(in.shape);
    std::vector<double> workspace(cuda::workspace_size(in.shape));
    const cuda::Queue queue{0, nullptr};
    const Inputs inputs{in.shape, u, mean, var};
    cuda::statistics(inputs, workspace.data(), out.moments.data(), in_one ? out.terms() : Terms{}, queue);
    if (!in_one) cuda::finalize(in.shape, out.moments.data(), workspace.data(), out.terms(), queue);
    const double scale_intra = 0.7, scale_inter = 1.3;
    cuda::gradient(inputs, out.moments.data(), out.slopes.data(), &scale_intra, &scale_inter,
                   out.gradients(in.shape.z, var.data), queue);
    return out;
}

bool near(const std::vector<double>& a, const std::vector<double>& b, double tolerance) {
    double gap = 0, size = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        gap += (a[i] - b[i]) * (a[i] - b[i]);
        size += a[i] * a[i];
    }
    return std::sqrt(gap) <= tolerance * std::sqrt(size) + 1e-12;  // a NaN is not near
}

bool agree(const Shape& shape, bool spread, double missing, bool in_one, double tolerance) {
    const Samples in(shape, missing);
    const Rows u = in.rows(in.u, shape.d), mean = in.rows(in.mean, shape.z);
    const Rows var = spread ? in.rows(in.var, shape.z) : Rows{};
    const Results a = on_cpu(in, u, mean, var), b = with_cuda(in, u, mean, var, in_one);
    const bool good = near(a.moments, b.moments, tolerance) && near(a.slopes, b.slopes, 100 * tolerance) &&
                      near({a.intra, a.inter}, {b.intra, b.inter}, tolerance) &&
                      near(a.d_mean, b.d_mean, 100 * tolerance) && near(a.d_var, b.d_var, 100 * tolerance);
    std::printf("N %lld, d %d, dz %d, K %d, %s, %g missing, %s: %s\n", (long long)shape.n, shape.d, shape.z, shape.k,
                spread ? "variances" : "no variances", missing, in_one ? "fused" : "apart", good ? "agree" : "DIFFER");
    return good;
}

}  // namespace

int main(int count, char** arguments) {
    using cuda_on_host::Fault;
    if (count > 1) cuda_on_host::fault = std::strcmp(arguments[1], "barrier") ? Fault::store : Fault::barrier;
    const double tolerance = 1e-5;  // of the CPU passes for float32
    bool good = agree({40, 5, 10, 3}, true, 0, true, tolerance);
    good &= agree({256, 2, 3, 2}, true, 0.2, false, tolerance);    // two parts, factors one by one
    good &= agree({130, 17, 33, 1}, false, 0.01, true, tolerance);  // four tiles
    good &= agree({9, 1, 2, 4}, false, 0, true, tolerance);
    good &= agree({0, 2, 3, 2}, true, 0, true, tolerance);
    return good ? 0 : 1;
}
