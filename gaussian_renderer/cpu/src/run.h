#pragma once
#include "threads.h"

namespace splatpose::SPLATPOSE_ISA {

// parallel_for with a callable body(index, worker).
template <class Body>
inline void for_each(int threads, int64_t count, Body&& body) {
  parallel_for(
      threads, count,
      [](void* context, int64_t index, int worker) {
        (*static_cast<Body*>(context))(index, worker);
      },
      &body);
}

}  // namespace splatpose::SPLATPOSE_ISA
