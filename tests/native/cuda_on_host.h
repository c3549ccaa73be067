// Lets the CUDA sources of csrc run on CPU threads: compiled by a C++20 compiler with HPCAUXVAE_CUDA_ON_HOST,
// one std::thread for each CUDA thread, two blocks at a time. Sanitizers then see what the kernels do.
//
// Two faults can be planted, to see that the sanitizers catch them.
#pragma once

#include <math.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __grid_constant__
#define __launch_bounds__(...)
#define HPCAUXVAE_SHARED(type, name) type* const name = static_cast<type*>(cuda_on_host::block->shared.get())

struct dim3 {
    unsigned x, y;
    dim3(unsigned x, unsigned y = 1) : x(x), y(y) {}
};

struct double2 {
    double x, y;
};
inline double2 make_double2(double x, double y) { return {x, y}; }

namespace cuda_on_host {

constexpr int kLanes = 32, kBlocksAtOnce = 2;

// barrier: __syncwarp does nothing. store: a block's shared memory is 8 bytes shorter than it asked for.
enum class Fault { none, barrier, store };
inline Fault fault = Fault::none;

// What the lanes of a warp give each other. Two sets, used in turn: nobody writes one that is still being read.
struct Warp {
    std::barrier<> gate{kLanes};
    double a[2][kLanes], b[2][kLanes];
};

struct Block {
    std::barrier<> gate;
    std::vector<Warp> warps;
    std::vector<char> votes;
    std::unique_ptr<void, void (*)(void*)> shared;

    Block(int threads, size_t bytes)
        : gate(threads), warps(threads / kLanes), votes(threads), shared(::operator new(bytes), ::operator delete) {
        std::memset(shared.get(), 0xff, bytes);  // NaN, so that a number never written shows
    }
};

struct Index {
    unsigned x = 0, y = 0;
};

inline thread_local Block* block = nullptr;
inline thread_local Index thread_index, block_index;
inline thread_local unsigned turn = 0;
inline Index grid_size;

inline int lane() { return int(thread_index.x % kLanes); }
inline Warp& warp() { return block->warps[thread_index.x / kLanes]; }

// Every lane's a and b, once all have given theirs.
struct Given {
    const double *a, *b;
};
inline Given exchange(double a, double b) {
    Warp& w = warp();
    const unsigned set = turn++ % 2;
    w.a[set][lane()] = a, w.b[set][lane()] = b;
    w.gate.arrive_and_wait();
    return {w.a[set], w.b[set]};
}

// mma.m8n8k4: the layout of the fragments is that of moments_cuda.h.
inline void multiply_add(double (&c)[2], double a, double b) {
    const Given given = exchange(a, b);
    for (int i = 0; i < 2; ++i)
        for (int k = 0; k < 4; ++k) c[i] += given.a[lane() / 4 * 4 + k] * given.b[(2 * (lane() % 4) + i) * 4 + k];
}

inline void load(const char* from, int size, unsigned& low, unsigned& high) {
    std::memcpy(&low, from, std::min(size, 4));
    if (size == 8) std::memcpy(&high, from + 4, 4);
}

inline void run(dim3 grid, int threads, size_t bytes, const std::function<void()>& kernel) {
    if (fault == Fault::store) bytes -= 8;
    grid_size = {grid.x, grid.y};
    const unsigned count = grid.x * grid.y;
    for (unsigned first = 0; first < count; first += kBlocksAtOnce) {
        std::vector<std::unique_ptr<Block>> blocks;
        std::vector<std::thread> team;
        for (unsigned number = first; number < std::min(count, first + kBlocksAtOnce); ++number) {
            blocks.push_back(std::make_unique<Block>(threads, bytes));
            for (int t = 0; t < threads; ++t)
                team.emplace_back([&kernel, grid, number, t, own = blocks.back().get()] {
                    block = own;
                    thread_index = {unsigned(t), 0};
                    block_index = {number % grid.x, number / grid.x};
                    kernel();
                });
        }
        for (auto& thread : team) thread.join();
    }
}

}  // namespace cuda_on_host

#define threadIdx cuda_on_host::thread_index
#define blockIdx cuda_on_host::block_index
#define gridDim cuda_on_host::grid_size

using std::min;

inline void __syncthreads() { cuda_on_host::block->gate.arrive_and_wait(); }
inline bool __syncthreads_or(bool vote) {
    auto& votes = cuda_on_host::block->votes;
    votes[threadIdx.x] = vote;
    __syncthreads();
    const bool any = std::any_of(votes.begin(), votes.end(), [](char v) { return v; });
    __syncthreads();
    return any;
}
inline void __syncwarp() {
    if (cuda_on_host::fault != cuda_on_host::Fault::barrier) cuda_on_host::warp().gate.arrive_and_wait();
}
inline bool __any_sync(unsigned, bool vote) {
    const double* const votes = cuda_on_host::exchange(vote, 0).a;
    return std::any_of(votes, votes + cuda_on_host::kLanes, [](double v) { return v != 0; });
}
inline double __shfl_down_sync(unsigned, double value, int away) {
    const int from = cuda_on_host::lane() + away;
    return cuda_on_host::exchange(value, 0).a[from < cuda_on_host::kLanes ? from : cuda_on_host::lane()];
}
inline void __threadfence() {}  // the atomic addition orders memory, and the barriers around it
inline unsigned atomicAdd(unsigned* counter, unsigned value) {
    return std::atomic_ref<unsigned>(*counter).fetch_add(value, std::memory_order_acq_rel);
}
inline double __ldcg(const double* from) { return *from; }

template <class To, class From>
To same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
inline double __hiloint2double(int high, int low) {
    return same_bits<double>(uint64_t(unsigned(high)) << 32 | unsigned(low));
}
inline float __uint_as_float(unsigned bits) { return same_bits<float>(bits); }
inline unsigned __float_as_uint(float value) { return same_bits<unsigned>(value); }

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess };
inline const char* cudaGetErrorString(cudaError_t) { return "no error"; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
inline cudaError_t cudaMemsetAsync(void* at, int value, size_t bytes, cudaStream_t) {
    std::memset(at, value, bytes);
    return cudaSuccess;
}
