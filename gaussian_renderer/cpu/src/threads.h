#pragma once
#include <cstdint>

namespace splatpose {

// Calls task(context, index, worker) for every index below `count`, handing indices out one by one
// to `threads` workers (0 <= worker < threads). One thread runs in the caller and starts nothing.
// Waiting workers sleep: a spinning one would take the core from another process.
void parallel_for(int threads, int64_t count, void (*task)(void* context, int64_t index, int worker),
                  void* context);

// Seconds of a steady clock.
double now();

}  // namespace splatpose
