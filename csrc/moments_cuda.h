// What the CUDA kernels share: reading and writing numbers, the 8 x 8 x 4 product, sums over a block, launches.
#pragma once

#include <stdexcept>
#include <string>
#include <type_traits>

#include "moments_math.h"
#ifdef HPCAUXVAE_CUDA_ON_HOST
#include "cuda_on_host.h"
#else
#define HPCAUXVAE_SHARED(type, name) extern __shared__ type name[]
#endif

namespace hpcauxvae {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;
#define HPCAUXVAE_ONCE __attribute__((noinline))  // for what is not in a loop over samples: small code starts faster
constexpr unsigned kAllLanes = 0xffffffffu;

__device__ inline const char* address(const Rows& rows, int64_t n, int column) {
    return static_cast<const char*>(rows.data) + (n * rows.stride + column) * size_of(rows.type);
}

// A number as it lies in memory.
struct Bits {
    unsigned low = 0, high = 0;
};

// Reads a number of 4, 8 or 2 bytes into one pair of registers: of the three loads the one that fits the type is carried
// out. Nothing waits for the number before it is decoded, so that many can be on their way at once.
__device__ inline Bits fetch(const char* from, Type type) {
    Bits bits;
#ifdef HPCAUXVAE_CUDA_ON_HOST
    cuda_on_host::load(from, size_of(type), bits.low, bits.high);
#else
    asm("{\n"
        ".reg .pred word, wide, half;\n"
        "setp.eq.s32 word, %3, 0;\n"
        "setp.eq.s32 wide, %3, 1;\n"
        "setp.eq.s32 half, %3, 2;\n"
        "@word ld.global.b32 %0, [%2];\n"
        "@wide ld.global.v2.b32 {%0, %1}, [%2];\n"
        "@half ld.global.u16 %0, [%2];\n"
        "}"
        : "=r"(bits.low), "=r"(bits.high)
        : "l"(from), "r"(int(type)));
#endif
    return bits;
}

__device__ inline double decode(Bits bits, Type type) {
    if (type == Type::f64) return __hiloint2double(int(bits.high), int(bits.low));
    return __uint_as_float(type == Type::bf16 ? bits.low << 16 : bits.low);
}

__device__ inline double load(const Rows& rows, int64_t n, int column) {
    return decode(fetch(address(rows, n, column), rows.type), rows.type);
}

__device__ inline void store(double x, const OutRows& rows, int64_t n, int column) {
    const int64_t at = n * rows.stride + column;
    if (rows.type == Type::f64) static_cast<double*>(rows.data)[at] = x;
    if (rows.type == Type::f32) static_cast<float*>(rows.data)[at] = float(x);
    if (rows.type == Type::bf16) {  // round to nearest, ties to even
        const unsigned bits = __float_as_uint(float(x));
        const unsigned rounded = x != x ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
        static_cast<unsigned short*>(rows.data)[at] = (unsigned short)rounded;
    }
}

// c (8, 8) += a (8, 4) b (4, 8) on the tensor cores. Lane l holds a[l / 4][l % 4], b[l % 4][l / 4] and
// c[l / 4][2 (l % 4) + {0, 1}].
__device__ inline void multiply_add(double (&c)[2], double a, double b) {
#ifdef HPCAUXVAE_CUDA_ON_HOST
    cuda_on_host::multiply_add(c, a, b);
#else
    asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
                 : "+d"(c[0]), "+d"(c[1])
                 : "d"(a), "d"(b));
#endif
}

// Both numbers summed over the block, in the same order every time; thread 0 holds the sums. work: 2 kThreads.
__device__ inline void block_sum(double (&values)[2], double* work) {
    for (int i = 0; i < 2; ++i) work[i * kThreads + threadIdx.x] = values[i];
    __syncthreads();
    if (threadIdx.x < 32)
        for (int i = 0; i < 2; ++i) {
            double total = 0;
            for (int w = 0; w < kWarps; ++w) total += work[i * kThreads + w * 32 + threadIdx.x];
            for (int away = 16; away > 0; away /= 2) total += __shfl_down_sync(kAllLanes, total, away);
            values[i] = total;
        }
    __syncthreads();
}

// Whether this block is the last of `count` to come here; then it sees what all the others wrote before.
__device__ inline bool last_of(unsigned* counter, int count) {
    __threadfence();
    __syncthreads();
    const bool last = threadIdx.x == 0 && atomicAdd(counter, 1u) == unsigned(count) - 1;
    const bool known = __syncthreads_or(last);
    __threadfence();
    return known;
}

inline void check(cudaError_t status) {
    if (status != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(status));
}

// Makes the queue's device current while it lives.
class On {
   public:
    explicit On(const cuda::Queue& queue) : to_(queue.device) {
        check(cudaGetDevice(&from_));
        if (from_ != to_) check(cudaSetDevice(to_));
    }
    ~On() {
        if (from_ != to_) cudaSetDevice(from_);
    }

   private:
    int from_ = 0;
    const int to_;
};

// shared: doubles.
template <class Problem>
void launch(void (*kernel)(Problem), dim3 grid, size_t shared, [[maybe_unused]] const cuda::Queue& queue,
            const Problem& problem) {
#ifdef HPCAUXVAE_CUDA_ON_HOST
    cuda_on_host::run(grid, kThreads, shared * sizeof(double), [&] { kernel(problem); });
#else
    kernel<<<grid, kThreads, shared * sizeof(double), static_cast<cudaStream_t>(queue.stream)>>>(problem);
#endif
    check(cudaGetLastError());
}

}  // namespace
}  // namespace hpcauxvae
