// cub and thrust, as far as the packages use them. As in cub, a first call without memory asks for
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

struct DeviceRadixSort {
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
