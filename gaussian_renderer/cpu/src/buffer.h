#pragma once
#include <cstddef>

namespace splatpose {

// Memory that grows and is kept: iterations after the first one touch no new pages.
// Out of line on purpose: an inline member could be emitted with AVX-512 instructions and then be
// picked by the linker for every caller.
class Buffer {
 public:
  Buffer() = default;
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  // At least `bytes` of 64-byte aligned memory; what was inside is lost when it has to grow.
  void* reserve(size_t bytes);
  void* data() const;

 private:
  void* data_ = nullptr;
  size_t capacity_ = 0;
};

}  // namespace splatpose
