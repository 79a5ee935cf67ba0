// Cooperative groups: the grid, its blocks, their warps, and the threads of a warp with one label.
#pragma once

#include <algorithm>
#include <bit>

namespace cooperative_groups {

struct thread_block {
  dim3 group_index() const { return {blockIdx.x, blockIdx.y, blockIdx.z}; }
  dim3 thread_index() const { return {threadIdx.x, threadIdx.y, threadIdx.z}; }
  unsigned thread_rank() const {
    return (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  }
  unsigned size() const { return blockDim.x * blockDim.y * blockDim.z; }
  void sync() const { __syncthreads(); }
};

struct grid_group {
  unsigned long long thread_rank() const {
    const unsigned long long rank =
        (blockIdx.z * 1ull * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    return rank * thread_block{}.size() + thread_block{}.thread_rank();
  }
};

struct warp_part {
  std::uint32_t members;
  unsigned thread_rank() const {
    return std::popcount(members & ((1u << cuda_on_cpu::block().lane()) - 1));
  }
};

template <unsigned SIZE>
struct thread_block_tile {
  static_assert(SIZE == cuda_on_cpu::WARP);
  unsigned thread_rank() const { return cuda_on_cpu::block().lane(); }
  bool any(bool vote) const {
    const auto lanes = cuda_on_cpu::block().exchange(vote);
    return std::any_of(lanes.values.begin(), lanes.values.end(), [](bool v) { return v; });
  }
};

template <unsigned SIZE>
thread_block_tile<SIZE> tiled_partition(thread_block) {
  return {};
}

template <unsigned SIZE, class Label>
warp_part labeled_partition(thread_block_tile<SIZE>, Label label) {
  const auto lanes = cuda_on_cpu::block().exchange(label);
  warp_part part{0};
  for (unsigned lane = 0; lane < SIZE; ++lane)
    part.members |= std::uint32_t{lanes.values[lane] == label} << lane;
  part.members &= lanes.members;
  return part;
}

template <class T>
struct plus {
  T operator()(T a, T b) const { return a + b; }
};
template <class T>
struct greater {
  T operator()(T a, T b) const { return a > b ? a : b; }
};

// All parts of a warp come here together.
template <class T, class Operation>
T reduce(warp_part part, T value, Operation operation) {
  const auto lanes = cuda_on_cpu::block().exchange(value);
  std::uint32_t left = part.members & lanes.members;
  T result = lanes.values[std::countr_zero(left)];
  for (left &= left - 1; left != 0; left &= left - 1)
    result = operation(result, lanes.values[std::countr_zero(left)]);
  return result;
}

template <unsigned SIZE, class T, class Operation>
T reduce(thread_block_tile<SIZE>, T value, Operation operation) {
  return reduce(warp_part{~0u}, value, operation);
}

inline thread_block this_thread_block() { return {}; }
inline grid_group this_grid() { return {}; }

}  // namespace cooperative_groups
