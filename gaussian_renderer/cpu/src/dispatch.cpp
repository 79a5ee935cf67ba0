// Which variant of the kernel runs. Asks the processor itself: a compiler's built-in test has
// answered wrongly with one of the supported compilers.
#include <cstring>

#include "kernel.h"

#if defined(SPLATPOSE_X86)
#include <cpuid.h>
#endif

namespace splatpose {

namespace {

#if defined(SPLATPOSE_X86)
bool bit(unsigned value, int position) { return (value >> position & 1) != 0; }

// The register sets that the operating system saves (XCR0).
unsigned saved_registers() {
  unsigned low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

struct Features {
  bool v3 = false, v4 = false;
};

Features ask_processor() {
  Features found;
  unsigned a, b, c, d;
  if (!__get_cpuid_count(1, 0, &a, &b, &c, &d)) return found;
  const bool fma = bit(c, 12), movbe = bit(c, 22), xsave = bit(c, 27), avx = bit(c, 28);
  const bool half = bit(c, 29), popcnt = bit(c, 23);
  if (!fma || !movbe || !xsave || !avx || !half || !popcnt) return found;
  const unsigned saved = saved_registers();
  if ((saved & 0x06) != 0x06) return found;  // SSE and AVX state
  unsigned a7, b7, c7, d7, ax, bx, cx, dx;
  if (!__get_cpuid_count(7, 0, &a7, &b7, &c7, &d7)) return found;
  if (!__get_cpuid_count(0x80000001u, 0, &ax, &bx, &cx, &dx)) return found;
  found.v3 = bit(b7, 3) && bit(b7, 5) && bit(b7, 8) && bit(cx, 5);  // BMI1, AVX2, BMI2, LZCNT
  const bool avx512 = bit(b7, 16) && bit(b7, 17) && bit(b7, 28) && bit(b7, 30) && bit(b7, 31);
  found.v4 = found.v3 && avx512 && (saved & 0xe6) == 0xe6;  // F, DQ, CD, BW, VL and their state
  return found;
}
#endif

}  // namespace

const Kernel* select_kernel(const char* wanted) {
  const bool any = wanted == nullptr || wanted[0] == '\0';
  const auto fits = [&](const char* name) { return any || std::strcmp(wanted, name) == 0; };
#if defined(SPLATPOSE_X86)
  const Features processor = ask_processor();
  if (processor.v4 && fits("v4")) return &kernel_v4();
  if (processor.v3 && fits("v3")) return &kernel_v3();
#endif
  return fits("generic") ? &kernel_generic() : nullptr;
}

}  // namespace splatpose
