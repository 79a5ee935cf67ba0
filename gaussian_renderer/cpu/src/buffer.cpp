#include "buffer.h"

#include <new>

namespace splatpose {

namespace {
constexpr std::align_val_t ALIGNMENT{64};
}

Buffer::~Buffer() { ::operator delete(data_, ALIGNMENT); }

void* Buffer::reserve(size_t bytes) {
#if defined(SPLATPOSE_SANITIZE)
  const bool fits = bytes == capacity_;  // no slack in which an overflow would go unnoticed
  const size_t slack = 0;
#else
  const bool fits = bytes <= capacity_;
  const size_t slack = bytes / 4 + 64;  // as clouds grow while training
#endif
  if (!fits) {
    ::operator delete(data_, ALIGNMENT);
    data_ = nullptr;
    capacity_ = 0;
    data_ = ::operator new(bytes + slack, ALIGNMENT);
    capacity_ = bytes + slack;
  }
  return data_;
}

void* Buffer::data() const { return data_; }

}  // namespace splatpose
