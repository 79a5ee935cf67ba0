// The threads of a CUDA block as fibers of one thread of the CPU; blocks run one after the other.
//
// A fiber runs until it ends or waits, for its block or for its warp (32 threads). When none can go
// on, those go on whose others have all come, in the order of their numbers: so sums by atomicAdd
// have a fixed order, unlike on a GPU. Shared memory is static memory, as no two blocks live at
// once.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include <ucontext.h>

#include "vector_types.h"

namespace cuda_on_cpu {

inline constexpr std::size_t STACK_BYTES = 128 * 1024;
inline constexpr unsigned WARP = 32;

template <class T>
struct Lanes {  // of a warp
  std::uint32_t members;  // one bit for each that takes part
  std::array<T, WARP> values;
};

class Block {
 public:
  // Runs `body` once for each thread; sets the global threadIdx before a thread goes on.
  void run(const std::function<void()>& body, dim3 size) {
    body_ = &body;
    const std::size_t count = std::size_t{size.x} * size.y * size.z;
    while (fibers_.size() < count) add_fiber();
    for (std::size_t i = 0; i < count; ++i) fibers_[i]->state = READY;
    do {
      for (std::size_t i = 0; i < count; ++i) {
        if (fibers_[i]->state != READY) continue;
        const unsigned column = i % size.x, row = i / size.x % size.y;
        index = {column, row, static_cast<unsigned>(i / size.x / size.y)};
        current_ = fibers_[i].get();
        swapcontext(&scheduler_, &current_->context);
      }
    } while (release(count));
  }

  // A barrier of all threads that have not ended; returns how many of them voted yes.
  int synchronise(bool vote = false) {
    pending_votes_ += vote;
    wait(FOR_BLOCK);
    return votes_;
  }

  // What every thread of this warp that has not ended gives here.
  template <class T>
  Lanes<T> exchange(T value) {
    static_assert(sizeof(T) <= sizeof(current_->slots[0]));
    Fiber& me = *current_;
    const unsigned turn = me.turn ^= 1;  // nobody is two exchanges ahead: two slots are enough
    memcpy(me.slots[turn], &value, sizeof(T));
    wait(FOR_WARP);
    Lanes<T> lanes{me.members, {}};
    for (unsigned lane = 0; lane < WARP; ++lane)
      if (lanes.members >> lane & 1)
        memcpy(&lanes.values[lane], fibers_[me.number / WARP * WARP + lane]->slots[turn], sizeof(T));
    return lanes;
  }

  unsigned lane() const { return current_->number % WARP; }

  uint3 index{};  // of the running thread

 private:
  enum State { READY, FOR_BLOCK, FOR_WARP, ENDED };

  struct Fiber {
    unsigned number;  // in the block
    State state = ENDED;
    std::uint32_t members = 0;  // of its warp, when it last went on
    unsigned turn = 0;
    char slots[2][8];
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[STACK_BYTES]};
  };

  void wait(State what) {
    current_->state = what;
    swapcontext(&current_->context, &scheduler_);
  }

  // Lets those go on whose others have come; false when all have ended.
  bool release(std::size_t count) {
    std::size_t waiting = 0, for_block = 0;
    bool released = false;
    for (std::size_t first = 0; first < count; first += WARP) {
      const std::size_t end = first + WARP < count ? first + WARP : count;
      std::uint32_t members = 0, arrived = 0;
      for (std::size_t i = first; i < end; ++i) {
        const State state = fibers_[i]->state;
        for_block += state == FOR_BLOCK;
        members |= std::uint32_t{state != ENDED} << (i - first);
        arrived |= std::uint32_t{state == FOR_WARP} << (i - first);
        waiting += state != ENDED;
      }
      if (arrived == 0 || arrived != members) continue;
      released = true;
      for (std::size_t i = first; i < end; ++i) go_on(i, FOR_WARP, members);
    }
    if (waiting == 0 || released) return waiting != 0;
    if (for_block != waiting) {
      fprintf(stderr, "a kernel's threads wait for one another in different places\n");
      abort();
    }
    for (std::size_t i = 0; i < count; ++i) go_on(i, FOR_BLOCK, 0);
    votes_ = pending_votes_;
    pending_votes_ = 0;
    return true;
  }

  void go_on(std::size_t i, State from, std::uint32_t members) {
    if (fibers_[i]->state != from) return;
    fibers_[i]->state = READY;
    fibers_[i]->members = members;
  }

  void add_fiber();

  [[noreturn]] void serve() {  // a fiber is used again for the next block
    for (;;) {
      (*body_)();
      wait(ENDED);
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
  fiber->number = static_cast<unsigned>(fibers_.size());
  getcontext(&fiber->context);
  fiber->context.uc_stack.ss_sp = fiber->stack.get();
  fiber->context.uc_stack.ss_size = STACK_BYTES;
  fiber->context.uc_link = nullptr;
  makecontext(&fiber->context, [] { block().serve(); }, 0);
  fibers_.push_back(std::move(fiber));
}

}  // namespace cuda_on_cpu
