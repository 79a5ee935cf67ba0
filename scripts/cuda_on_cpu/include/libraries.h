// cub, thrust and PyTorch's parts for CUDA, as far as the packages use them. As in cub, a first call without memory asks for
// its size; none is needed here.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

namespace cub {

struct DeviceScan {
  template <class In, class Out>
  static void InclusiveSum(void* memory, std::size_t& bytes, In in, Out out, int count) {
    if (memory == nullptr) bytes = 1;
    else std::partial_sum(in, in + count, out);
  }
};

struct DeviceReduce {
  template <class In, class Out, class Operation, class T>
  static void Reduce(void* memory, std::size_t& bytes, In in, Out out, int count,
                     Operation operation, T start) {
    if (memory == nullptr) bytes = 1;
    else *out = std::accumulate(in, in + count, start, operation);
  }
};

template <class T>
struct DoubleBuffer {
  DoubleBuffer(T* now, T* other) : buffers{now, other} {}
  T* buffers[2];
  int selector = 0;
};

struct DeviceRadixSort {
  template <class Key, class Value>
  static void SortPairs(void* memory, std::size_t& bytes, DoubleBuffer<Key>& keys,
                        DoubleBuffer<Value>& values, int count, int begin, int end, int) {
    using Bits = std::make_unsigned_t<Key>;  // the sign bit is not among those that are sorted by
    SortPairs(memory, bytes, reinterpret_cast<const Bits*>(keys.buffers[0]),
              reinterpret_cast<Bits*>(keys.buffers[1]), values.buffers[0], values.buffers[1], count,
              begin, end);
    keys.selector = values.selector = 1;
  }

  // stable, by the bits from `begin` to `end` of unsigned keys
  template <class Key, class Value>
  static void SortPairs(void* memory, std::size_t& bytes, const Key* keys, Key* sorted_keys,
                        const Value* values, Value* sorted_values, int count, int begin = 0,
                        int end = 8 * sizeof(Key)) {
    static_assert(std::is_unsigned_v<Key>);
    if (memory == nullptr) {
      bytes = 1;
      return;
    }
    const Key all = ~Key{0}, mask = end >= int(8 * sizeof(Key)) ? all : ~(all << end);
    std::vector<int> order(count);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [=](int a, int b) {
      return (keys[a] & mask) >> begin < (keys[b] & mask) >> begin;
    });
    for (int i = 0; i < count; ++i) {
      sorted_keys[i] = keys[order[i]];
      sorted_values[i] = values[order[i]];
    }
  }
};

struct DeviceSegmentedRadixSort {  // gsplat sorts so if asked to, which we do not
  template <class... Arguments>
  static void SortPairs(Arguments&&...);  // so it is left undefined
};

template <class T, int THREADS>
struct BlockReduce {
  using TempStorage = std::array<T, THREADS>;
  TempStorage& memory;
  T Sum(T value) {
    memory[threadIdx.x] = value;
    __syncthreads();
    return std::accumulate(memory.begin(), memory.end(), T{0});
  }
};

template <class T, int THREADS>
struct BlockScan {
  using TempStorage = std::array<T, THREADS>;
  TempStorage& memory;
  void ExclusiveSum(T value, T& sum) {
    memory[threadIdx.x] = value;
    __syncthreads();
    sum = std::accumulate(memory.begin(), memory.begin() + threadIdx.x, T{0});
  }
};

}  // namespace cub

namespace thrust {

template <class T>
class device_vector {
 public:
  struct Pointer {
    T* address;
    T* get() const { return address; }
  };

  explicit device_vector(std::size_t count) : values_(count) {}
  void resize(std::size_t count) { values_.resize(count); }
  Pointer data() { return {values_.data()}; }
  auto begin() { return values_.begin(); }
  auto end() { return values_.end(); }

 private:
  std::vector<T> values_;
};

template <class Iterator>
void sequence(Iterator first, Iterator last) {
  std::iota(first, last, 0);
}

}  // namespace thrust

namespace at::cuda {

inline int getCurrentCUDAStream() { return 0; }

struct OptionalCUDAGuard {
  template <class Device>
  explicit OptionalCUDAGuard(Device) {}
};

}  // namespace at::cuda

namespace c10::cuda::CUDACachingAllocator {

struct Allocator {
  std::unique_ptr<char[]> allocate(std::size_t bytes) { return std::make_unique<char[]>(bytes); }
};

inline Allocator* get() {
  static Allocator only;
  return &only;
}

}  // namespace c10::cuda::CUDACachingAllocator
