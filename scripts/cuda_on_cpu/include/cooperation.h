// Cooperative groups: a block's threads, and the whole grid's numbering.
#pragma once

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

inline thread_block this_thread_block() { return {}; }
inline grid_group this_grid() { return {}; }

}  // namespace cooperative_groups
