// The threads of a CUDA block as fibers of one thread of the CPU; blocks run one after the other.
//
// A fiber runs until it ends or reaches a barrier. When all have done so, those at the barrier go
// on, in the order of their numbers: so sums by atomicAdd have a fixed order, unlike on a GPU.
// Shared memory is static memory, as no two blocks live at once.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include <ucontext.h>

#include "vector_types.h"

namespace cuda_on_cpu {

inline constexpr std::size_t STACK_BYTES = 128 * 1024;

class Block {
 public:
  // Runs `body` once for each thread; sets the global threadIdx before a thread goes on.
  void run(const std::function<void()>& body, dim3 size) {
    body_ = &body;
    const std::size_t count = std::size_t{size.x} * size.y * size.z;
    while (fibers_.size() < count) add_fiber();
    for (std::size_t i = 0; i < count; ++i) fibers_[i]->ended = false;
    for (bool waiting = true; waiting;) {
      waiting = false;
      for (std::size_t i = 0; i < count; ++i) {
        if (fibers_[i]->ended) continue;
        const unsigned column = i % size.x, row = i / size.x % size.y;
        index = {column, row, static_cast<unsigned>(i / size.x / size.y)};
        current_ = fibers_[i].get();
        swapcontext(&scheduler_, &current_->context);
        waiting |= !current_->ended;
      }
      votes_ = pending_votes_;
      pending_votes_ = 0;
    }
  }

  // A barrier of all threads that have not ended; returns how many of them voted yes.
  int synchronise(bool vote = false) {
    pending_votes_ += vote;
    swapcontext(&current_->context, &scheduler_);
    return votes_;
  }

  uint3 index{};  // of the running thread

 private:
  struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[STACK_BYTES]};
    bool ended = true;
  };

  void add_fiber();

  [[noreturn]] void serve() {  // a fiber is used again for the next block
    for (;;) {
      (*body_)();
      current_->ended = true;
      swapcontext(&current_->context, &scheduler_);
    }
  }

  std::vector<std::unique_ptr<Fiber>> fibers_;
  Fiber* current_ = nullptr;
  ucontext_t scheduler_;
  const std::function<void()>* body_ = nullptr;
  int votes_ = 0, pending_votes_ = 0;

  friend Block& block();
};

inline Block& block() {
  static Block only;
  return only;
}

inline void Block::add_fiber() {
  auto fiber = std::make_unique<Fiber>();
  getcontext(&fiber->context);
  fiber->context.uc_stack.ss_sp = fiber->stack.get();
  fiber->context.uc_stack.ss_size = STACK_BYTES;
  fiber->context.uc_link = nullptr;
  makecontext(&fiber->context, [] { block().serve(); }, 0);
  fibers_.push_back(std::move(fiber));
}

}  // namespace cuda_on_cpu
