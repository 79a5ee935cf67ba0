#include "buffer.h"

#include <new>

namespace splatpose {

namespace {
constexpr std::align_val_t ALIGNMENT{64};
}

Buffer::~Buffer() { ::operator delete(data_, ALIGNMENT); }

void* Buffer::reserve(size_t bytes) {
  if (bytes > capacity_) {
    ::operator delete(data_, ALIGNMENT);
    data_ = nullptr;
    capacity_ = 0;
    const size_t wanted = bytes + bytes / 4 + 64;  // some slack, as clouds grow while training
    data_ = ::operator new(wanted, ALIGNMENT);
    capacity_ = wanted;
  }
  return data_;
}

void* Buffer::data() const { return data_; }

}  // namespace splatpose
