// Python's door to the passes: checks every argument, releases the GIL. Arrays come as (address, row stride, type),
// flat buffers as (address, number of doubles), a place on a GPU as (device, stream): no tensor library is needed to
// build this module.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <tuple>

#include "moments.h"

namespace py = pybind11;
using namespace hpcauxvae;

namespace {

using Dimensions = std::tuple<int64_t, int, int, int>;
using RowsArgument = std::tuple<uintptr_t, int64_t, int>;
using BufferArgument = std::tuple<uintptr_t, int64_t>;

void require(bool holds, const std::string& name, int64_t value, const std::string& allowed) {
    if (!holds) throw py::value_error(name + " is " + std::to_string(value) + "; allowed: " + allowed);
}

Shape shape_from(const Dimensions& dimensions) {
    const auto [n, d, z, k] = dimensions;
    require(n >= 0, "number of samples", n, "0 or more");
    require(d >= 1, "number of factors", d, "1 or more");
    require(z >= d, "number of latents", z, "the number of factors, " + std::to_string(d) + ", or more");
    require(k >= 1 && k <= kMaxDegree, "degree", k, "1 to " + std::to_string(kMaxDegree));
    return {n, d, z, k};
}

template <class R>
R rows_from(const std::string& name, const RowsArgument& argument, int64_t samples) {
    const auto [address, stride, type] = argument;
    require(address != 0 || samples == 0, name + " address", 0, "not null");
    require(stride >= 0, name + " row stride", stride, "0 or more elements");
    require(type >= 0 && type <= 2, name + " type", type, "0 (float32), 1 (float64), 2 (bfloat16)");
    return {reinterpret_cast<decltype(R::data)>(address), stride, Type(type)};
}

double* buffer_from(const std::string& name, const BufferArgument& argument, size_t expected) {
    const auto [address, size] = argument;
    require(address != 0, name + " address", 0, "not null");
    require(size == int64_t(expected), name + " size", size, std::to_string(expected) + " doubles");
    return reinterpret_cast<double*>(address);
}

Inputs inputs_from(const Dimensions& dimensions, const RowsArgument& u, const RowsArgument& mean,
                   const std::optional<RowsArgument>& var) {
    const Shape shape = shape_from(dimensions);
    return {shape, rows_from<Rows>("u", u, shape.n), rows_from<Rows>("codes", mean, shape.n),
            var ? rows_from<Rows>("var", *var, shape.n) : Rows{}};
}

Gradients gradients_from(const RowsArgument& d_mean, const std::optional<RowsArgument>& d_var, const Inputs& in,
                         bool has_var) {
    require(d_var.has_value() == has_var, "d_var given", d_var.has_value(), "exactly where var is given");
    return {rows_from<OutRows>("d_codes", d_mean, in.shape.n),
            d_var ? rows_from<OutRows>("d_var", *d_var, in.shape.n) : OutRows{}};
}

double* moments_from(const BufferArgument& moments, const Shape& shape) {
    return buffer_from("moments", moments, Layout(shape).size());
}

// Two numbers and the slopes.
using TermsArgument = std::tuple<BufferArgument, BufferArgument, BufferArgument>;

Terms terms_from(const TermsArgument& argument, const Shape& shape) {
    const auto& [intra, inter, slopes] = argument;
    return {buffer_from("intra", intra, 1), buffer_from("inter", inter, 1),
            buffer_from("slopes", slopes, slopes_size(shape))};
}

// With `terms` what finalize makes of the moments, too: one call less where no reduction stands between.
void statistics_of(const Dimensions& dimensions, const RowsArgument& u, const RowsArgument& mean,
                   const std::optional<RowsArgument>& var, const BufferArgument& moments,
                   const std::optional<TermsArgument>& terms, int threads) {
    const Inputs in = inputs_from(dimensions, u, mean, var);
    double* const out = moments_from(moments, in.shape);
    const Terms to = terms ? terms_from(*terms, in.shape) : Terms{};
    const py::gil_scoped_release release;
    statistics(in, threads, out);
    if (terms) finalize(in.shape, out, to);
}

void finalize_of(const Dimensions& dimensions, const BufferArgument& moments, const TermsArgument& terms) {
    const Shape shape = shape_from(dimensions);
    finalize(shape, moments_from(moments, shape), terms_from(terms, shape));
}

void gradient_of(const Dimensions& dimensions, const RowsArgument& u, const RowsArgument& mean,
                 const std::optional<RowsArgument>& var, const BufferArgument& moments, const BufferArgument& slopes,
                 const std::tuple<double, double>& scales, int threads, const RowsArgument& d_mean,
                 const std::optional<RowsArgument>& d_var) {
    const Inputs in = inputs_from(dimensions, u, mean, var);
    const double* const from = moments_from(moments, in.shape);
    const double* const with = buffer_from("slopes", slopes, slopes_size(in.shape));
    const Gradients to = gradients_from(d_mean, d_var, in, var.has_value());
    const py::gil_scoped_release release;
    gradient(in, from, with, std::get<0>(scales), std::get<1>(scales), threads, to);
}

#if HPCAUXVAE_CUDA
using QueueArgument = std::tuple<int, uintptr_t>;

cuda::Queue queue_from(const QueueArgument& argument) {
    const auto [device, stream] = argument;
    require(device >= 0, "device", device, "0 or more");
    return {device, reinterpret_cast<void*>(stream)};
}

int64_t cuda_workspace(const Dimensions& dimensions) { return cuda::workspace_size(shape_from(dimensions)); }

void cuda_statistics(const Dimensions& dimensions, const RowsArgument& u, const RowsArgument& mean,
                     const std::optional<RowsArgument>& var, const BufferArgument& moments,
                     const std::optional<TermsArgument>& terms, const BufferArgument& workspace,
                     const QueueArgument& where) {
    const Inputs in = inputs_from(dimensions, u, mean, var);
    cuda::statistics(in, buffer_from("workspace", workspace, cuda::workspace_size(in.shape)),
                     moments_from(moments, in.shape), terms ? terms_from(*terms, in.shape) : Terms{},
                     queue_from(where));
}

void cuda_finalize(const Dimensions& dimensions, const BufferArgument& moments, const TermsArgument& terms,
                   const BufferArgument& workspace, const QueueArgument& where) {
    const Shape shape = shape_from(dimensions);
    cuda::finalize(shape, moments_from(moments, shape),
                   buffer_from("workspace", workspace, cuda::workspace_size(shape)), terms_from(terms, shape),
                   queue_from(where));
}

void cuda_gradient(const Dimensions& dimensions, const RowsArgument& u, const RowsArgument& mean,
                   const std::optional<RowsArgument>& var, const BufferArgument& moments, const BufferArgument& slopes,
                   const BufferArgument& scale_intra, const BufferArgument& scale_inter, const RowsArgument& d_mean,
                   const std::optional<RowsArgument>& d_var, const QueueArgument& where) {
    const Inputs in = inputs_from(dimensions, u, mean, var);
    cuda::gradient(in, moments_from(moments, in.shape), buffer_from("slopes", slopes, slopes_size(in.shape)),
                   buffer_from("d_intra", scale_intra, 1), buffer_from("d_inter", scale_inter, 1),
                   gradients_from(d_mean, d_var, in, var.has_value()), queue_from(where));
}
#endif

}  // namespace

PYBIND11_MODULE(_core, module) {
    module.attr("cuda_compiled") = HPCAUXVAE_CUDA != 0;
    module.attr("instruction_sets") = instruction_sets();
    module.attr("instruction_set") = instruction_set();
    module.def("use_instruction_set", [](const std::string& name) {
        if (!use_instruction_set(name)) throw py::value_error("instruction set is " + name + "; allowed: baseline" +
                                  " and what else instruction_sets has");
    });
    module.def("statistics", statistics_of);
    module.def("finalize", finalize_of);
    module.def("gradient", gradient_of);
#if HPCAUXVAE_CUDA
    module.def("cuda_workspace", cuda_workspace);
    module.def("cuda_statistics", cuda_statistics);
    module.def("cuda_finalize", cuda_finalize);
    module.def("cuda_gradient", cuda_gradient);
    module.def("cuda_device_count", cuda::device_count);
#endif
}
