#pragma once
// One step of Adam (Kingma & Ba 2015) over several arrays, in place.
#include "kernel.h"
#include "run.h"
#include "simd.h"

namespace splatpose::SPLATPOSE_ISA {

constexpr int64_t ADAM_CHUNK = 16384;  // values handed out together
constexpr int MAX_COLUMNS = 64;        // with rates of their own

struct AdamStep {
  float gain1, gain2;  // 1 - beta, rounded only once
  float epsilon, first_correction, second_correction;  // corrections are factors
};

SPLATPOSE_INLINE void adam_update(const AdamStep& a, F rate, float* values, const float* gradient,
                                  float* first, float* second) {
  const F g = limited(load(gradient), LARGEST);  // its square fits
  const F m = fma(g - load(first), broadcast(a.gain1), load(first));
  const F v = fma(g * g - load(second), broadcast(a.gain2), load(second));
  store(first, m);
  store(second, v);
  const F root = square_root(v) * a.second_correction + a.epsilon;
  store(values, fnma(rate * a.first_correction, m / root, load(values)));
}

// Values begin ... end - 1 of a group. `pattern` holds the rates of one period of the columns.
inline void adam_range(const AdamGroup& group, const AdamStep& step, const float* pattern,
                       int period, int64_t begin, int64_t end) {
  int phase = static_cast<int>(begin % period);
  int64_t i = begin;
  for (; i + LANES <= end; i += LANES) {
    adam_update(step, load(pattern + phase), group.values + i, group.gradient + i, group.first + i,
                group.second + i);
    phase = (phase + LANES) % period;
  }
  if (i == end) return;
  float buffer[4][LANES] = {};
  const size_t bytes = sizeof(float) * (end - i);
  float* arrays[4] = {group.values + i, nullptr, group.first + i, group.second + i};
  std::memcpy(buffer[0], arrays[0], bytes);
  std::memcpy(buffer[1], group.gradient + i, bytes);
  std::memcpy(buffer[2], arrays[2], bytes);
  std::memcpy(buffer[3], arrays[3], bytes);
  adam_update(step, load(pattern + phase), buffer[0], buffer[1], buffer[2], buffer[3]);
  for (int k = 0; k < 4; ++k) {
    if (arrays[k]) std::memcpy(arrays[k], buffer[k], bytes);
  }
}

inline void adam(const AdamGroup* groups, int count, int64_t step, double beta1,
                 double beta2, double epsilon, int threads) {
  const double power = static_cast<double>(step);
  const AdamStep a{static_cast<float>(1.0 - beta1), static_cast<float>(1.0 - beta2),
                   static_cast<float>(epsilon),
                   static_cast<float>(1.0 / (1.0 - __builtin_pow(beta1, power))),
                   static_cast<float>(1.0 / __builtin_sqrt(1.0 - __builtin_pow(beta2, power)))};
  for (int k = 0; k < count; ++k) {
    const AdamGroup& group = groups[k];
    float pattern[MAX_COLUMNS + LANES];  // one period, continued for a register's length
    const int period = static_cast<int>(group.columns);
    for (int i = 0; i < period + LANES; ++i) pattern[i] = group.rates[i % period];
    const int64_t size = group.rows * group.columns;
    for_each(threads, (size + ADAM_CHUNK - 1) / ADAM_CHUNK, [&](int64_t chunk, int) {
      adam_range(group, a, pattern, period, chunk * ADAM_CHUNK,
                 smaller(size, (chunk + 1) * ADAM_CHUNK));
    });
  }
}

}  // namespace splatpose::SPLATPOSE_ISA
