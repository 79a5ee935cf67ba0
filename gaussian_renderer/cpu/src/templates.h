#pragma once
// Sums of response maps under many templates, and the best place of each: the inner loop of
// template matching with linear memories (Hinterstoisser et al. 2012).
#include "kernel.h"
#include "run.h"
#include "simd.h"

namespace splatpose::SPLATPOSE_ISA {

constexpr int64_t TEMPLATE_CHUNK = 64;  // templates handed out together
constexpr int WIDE = 4 * LANES;         // bytes of a register
constexpr int REGISTERS = PLACES_AT_ONCE / WIDE;

typedef uint8_t Bytes __attribute__((vector_size(WIDE)));
typedef uint8_t AnyBytes __attribute__((vector_size(WIDE), aligned(1), may_alias));

SPLATPOSE_INLINE Bytes load_bytes(const uint8_t* p) {
  return *reinterpret_cast<const AnyBytes*>(p);
}

// The sums of one template at PLACES_AT_ONCE places that follow each other; 0 where not valid.
// Returns the largest.
SPLATPOSE_INLINE int sums_of_block(const uint8_t* memory, const int32_t* starts, int features,
                                   const uint8_t* valid, uint8_t* sums) {
  Bytes sum[REGISTERS] = {};
  for (int f = 0; f < features; ++f) {
    const uint8_t* response = memory + starts[f];
    for (int k = 0; k < REGISTERS; ++k) sum[k] += load_bytes(response + k * WIDE);
  }
  Bytes most = {};
  for (int k = 0; k < REGISTERS; ++k) {
    sum[k] &= load_bytes(valid + k * WIDE);
    most = sum[k] > most ? sum[k] : most;
    std::memcpy(sums + k * WIDE, &sum[k], WIDE);
  }
  int largest = 0;
  for (int i = 0; i < WIDE; ++i) largest = most[i] > largest ? most[i] : largest;
  return largest;
}

// See Kernel::template_peaks.
inline void template_peaks(const TemplateSearch& search, int threads) {
  const int64_t chunks = (search.templates + TEMPLATE_CHUNK - 1) / TEMPLATE_CHUNK;
  for_each(threads, chunks, [&](int64_t chunk, int) {
    const int64_t first = chunk * TEMPLATE_CHUNK;
    const int64_t end = smaller(search.templates, first + TEMPLATE_CHUNK);
    for (int64_t t = first; t < end; ++t) {
      const int32_t* starts = search.starts + t * search.features;
      int best = -1;
      int64_t where = 0;
      for (int64_t place = 0; place < search.places; place += PLACES_AT_ONCE) {
        uint8_t sums[PLACES_AT_ONCE];
        const int largest = sums_of_block(search.memory + place, starts, search.features,
                                          search.valid + place, sums);
        if (largest <= best) continue;
        best = largest;
        where = place;
        while (sums[where - place] != largest) ++where;
      }
      search.best[t] = static_cast<uint8_t>(best);
      search.where[t] = static_cast<int32_t>(where);
    }
  });
}

}  // namespace splatpose::SPLATPOSE_ISA
