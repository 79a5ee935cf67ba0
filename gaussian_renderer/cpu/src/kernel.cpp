// Compiled once for every instruction set; SPLATPOSE_ISA names the namespace and the table.
// No standard containers here: their inline code could end up in another variant.
#include "kernel.h"

#include "adam.h"
#include "backward_project.h"
#include "bin.h"
#include "blend.h"
#include "blend_backward.h"
#include "forward_project.h"
#include "pose_blend.h"
#include "ssim.h"
#include "templates.h"

namespace splatpose {
namespace SPLATPOSE_ISA {

namespace {

bool prepare(Frame& frame, const Cloud& cloud, int32_t* radii, int threads) {
  frame.tiles_x = (frame.camera.width + TILE - 1) / TILE;
  frame.tiles_y = (frame.camera.height + TILE - 1) / TILE;
  const double start = now();
  project(frame, cloud, radii, threads);
  const double projected = now();
  const bool fits = bin(frame, cloud.count);
  frame.seconds[PROJECT] = projected - start;
  frame.seconds[BIN] = now() - projected;
  return fits;
}

bool rasterise(Frame& frame, const Cloud& cloud, const Image& out, bool keep_state, int threads) {
  if (!prepare(frame, cloud, out.radii, threads)) return false;
  const double start = now();
  blend(frame, out, keep_state, threads);
  frame.seconds[BLEND] = now() - start;
  return true;
}

void backward(Frame& frame, const Cloud& cloud, const ImageGradient& image,
              const CloudGradient& gradient, int threads) {
  const double start = now();
  blend_backward(frame, image, threads);
  const double blended = now();
  project_backward(frame, cloud, gradient, threads);
  frame.seconds[BLEND_BACKWARD] = blended - start;
  frame.seconds[PROJECT_BACKWARD] = now() - blended;
}

bool normal_equations(Frame& frame, const Cloud& cloud, const Residual& residual, int32_t* radii,
                      NormalSums& out, int threads) {
  if (!prepare(frame, cloud, radii, threads)) return false;
  project_tangents(frame, cloud, threads);
  pose_sums(frame, cloud, residual, out, threads);
  return true;
}

#define SPLATPOSE_TEXT(x) SPLATPOSE_TEXT_OF(x)
#define SPLATPOSE_TEXT_OF(x) #x
constexpr Kernel TABLE = {SPLATPOSE_TEXT(SPLATPOSE_ISA), rasterise, normal_equations, backward,
                          photometric, adam, template_peaks};

}  // namespace

}  // namespace SPLATPOSE_ISA

#define SPLATPOSE_JOIN(a, b) SPLATPOSE_JOIN_OF(a, b)
#define SPLATPOSE_JOIN_OF(a, b) a##b
const Kernel& SPLATPOSE_JOIN(kernel_, SPLATPOSE_ISA)() { return SPLATPOSE_ISA::TABLE; }

}  // namespace splatpose
