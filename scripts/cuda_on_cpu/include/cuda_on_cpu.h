// What the packages use of CUDA's language and runtime, in C++. Every header of CUDA that they
// include leads here (build.py writes those). `kernel<<<grid, block>>>(arguments)` is no C++ and
// becomes `cuda_on_cpu::launch(kernel, grid, block)(arguments)`, also by build.py.
#pragma once

#include <math.h>  // as CUDA does: abs, exp and sqrt of floats without std::
#include <stdlib.h>

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <type_traits>

#include "fibers.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

#define threadIdx (cuda_on_cpu::block().index)
inline uint3 blockIdx;
inline dim3 blockDim, gridDim;

namespace cuda_on_cpu {

inline std::vector<std::max_align_t> dynamic_memory;  // of the running block

template <class T>
T* dynamic_shared() {  // extern __shared__
  return reinterpret_cast<T*>(dynamic_memory.data());
}

template <class Kernel>
auto launch(Kernel kernel, dim3 grid, dim3 size, std::size_t shared_bytes = 0, int = 0) {
  return [=](auto... arguments) {
    dynamic_memory.resize(shared_bytes / sizeof(std::max_align_t) + 1);
    gridDim = grid;
    blockDim = size;
    const std::function<void()> thread = [&] { kernel(arguments...); };
    for (unsigned z = 0; z < grid.z; ++z)
      for (unsigned y = 0; y < grid.y; ++y)
        for (unsigned x = 0; x < grid.x; ++x) {
          blockIdx = {x, y, z};
          block().run(thread, size);
        }
  };
}

// A GPU turns what is under zero into 0, C++ into anything: (uint32_t)floor(x) becomes
// to_uint32 * floor(x).
inline struct {
  std::uint32_t operator*(double value) const {
    return value <= 0 ? 0 : value >= 4294967295.0 ? 4294967295u : static_cast<std::uint32_t>(value);
  }
} to_uint32;

}  // namespace cuda_on_cpu

inline void __syncthreads() { cuda_on_cpu::block().synchronise(); }
inline int __syncthreads_count(int vote) { return cuda_on_cpu::block().synchronise(vote != 0); }
inline int __syncthreads_or(int vote) { return __syncthreads_count(vote) > 0; }
[[noreturn]] inline void __trap() { abort(); }

template <class T>
T atomicAdd(T* address, T value) {
  const T before = *address;
  *address += value;
  return before;
}

template <class T>
T gpuAtomicAdd(T* address, std::type_identity_t<T> value) {  // of PyTorch
  return atomicAdd<T>(address, value);
}

inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
template <class T>
T rsqrt(T x) {
  return 1 / std::sqrt(x);
}
template <class T>
T rsqrtf(T x) {
  return 1 / std::sqrt(x);
}

// CUDA mixes signed and unsigned here, to the common type, and ignores one NaN
template <class A, class B>
  requires(std::is_arithmetic_v<A> && std::is_arithmetic_v<B>)
auto min(A a, B b) {
  using Common = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<Common>) return std::fmin(Common(a), Common(b));
  else return Common(b) < Common(a) ? Common(b) : Common(a);
}

template <class A, class B>
  requires(std::is_arithmetic_v<A> && std::is_arithmetic_v<B>)
auto max(A a, B b) {
  using Common = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<Common>) return std::fmax(Common(a), Common(b));
  else return Common(a) < Common(b) ? Common(b) : Common(a);
}

// ---- runtime: one memory for both sides

enum cudaError_t { cudaSuccess, cudaErrorMemoryAllocation };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };

enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };

template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel*, cudaFuncAttribute, std::size_t) {
  return cudaSuccess;
}
inline cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : "out of memory";
}
template <class T>
cudaError_t cudaMalloc(T** address, std::size_t bytes) {
  *address = static_cast<T*>(malloc(bytes));
  return *address == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}
inline cudaError_t cudaFree(void* address) {
  free(address);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  memcpy(to, from, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemset(void* to, int value, std::size_t bytes) {
  memset(to, value, bytes);
  return cudaSuccess;
}

#include "cooperation.h"
#include "libraries.h"
