#pragma once
// What the instruction-set variants share: plain data and one table of functions. Nothing here has
// code, so nothing here can be compiled for the wrong processor.
#include <cstdint>

#include "buffer.h"

namespace splatpose {

// The numbers of the definition (gaussian_renderer/reference.py).
constexpr float NEAR_PLANE = 0.2f;
constexpr float LOW_PASS = 0.3f;
constexpr float ALPHA_MAX = 0.99f;
constexpr float TRANSMITTANCE_MIN = 1e-4f;
constexpr float FRUSTUM_MARGIN = 1.3f;
constexpr float LOG2_255 = 7.9943534f;
// Pixels, depths and colours beyond this are not drawn, and gradients are held within it: the square
// of a number in this range is still a float.
constexpr float LARGEST = 1e18f;
constexpr float PIXEL_LARGEST = 1e9f;  // of residuals and their derivatives: sums of cubes fit

constexpr int TILE_BITS = 5;     // of a pixel coordinate inside a tile
constexpr int TILE = 1 << TILE_BITS;  // pixels; 8 x 8 blocks of 4 x 4 pixels
constexpr int BLOCKS = 64;       // of a tile
constexpr int GROUP = 4;         // channels that are blended together
constexpr int SLOT_GEOMETRY = 8; // floats of a gradient slot before its channels; 6 are used
constexpr int CHUNK = 1024;      // Gaussians handed out together; fixed, so sums keep their order

struct Pinhole {
  float fx, fy, cx, cy;
  int width, height;
  float view[12];  // object to camera: rotation row by row (9), translation (3)
};

// Raw parameters, as in scene.Gaussians. Exactly one of sh and colours is given.
struct Cloud {
  int64_t count;
  const float* means;           // [N, 3]
  const float* log_scales;      // [N, 3]
  const float* quaternions;     // [N, 4]
  const float* opacity_logits;  // [N]
  const float* sh;              // [N, sh_terms, 3] or null
  const float* colours;         // [N, channels] or null
  const float* screen;          // [N, 2] pixel offsets
  int sh_terms;                 // (degree + 1)^2
  int channels;                 // 3 with sh
};

struct CloudGradient {  // same shapes as Cloud; null: not wanted
  float* means;
  float* log_scales;
  float* quaternions;
  float* opacity_logits;
  float* sh;
  float* colours;
  float* screen;
  double* view;  // [12]
};

// One Gaussian on the image plane; exactly one cache line. With dx and dy counted from a pixel to
// the mean, log2(alpha) = log2_opacity - s^2 - t^2, where s = su dx + sv dy and t = tv dy: the
// Cholesky factor of the conic. It rounds better than the conic (no cancellation along a needle),
// and it is cheaper, because s and t are linear in the pixel.
struct alignas(64) Splat {
  float u, v;              // pixels
  float su, sv, tv;
  float log2_opacity;
  float half_u, half_v;    // pixels; outside of the rectangle alpha < 1/255
  float channel[GROUP];
  float s_start, t_start;  // s and t at a tile's first pixel; only in the copies of a tile
  uint64_t touched;        // blocks of the tile to which it contributed; likewise
};
static_assert(sizeof(Splat) == 64);

struct Cover {        // the tiles of a Gaussian; none: all zero
  uint32_t first;     // the upper left one
  uint16_t columns, rows;
};

struct Pair {         // a Gaussian that touches a tile
  uint32_t splat;
  uint32_t slot;      // where its gradient of this tile goes
};

enum Stage { PROJECT, BIN, BLEND, BLEND_BACKWARD, PROJECT_BACKWARD, STAGES };

// Everything that backward needs from forward. Buffers are kept and used again.
struct Frame {
  Pinhole camera;
  int64_t drawn, pairs;
  int64_t most_pairs;  // more are refused: they are numbered in 32 bits and have to fit into memory
  int tiles_x, tiles_y;
  int channels;       // with depth
  bool depth;
  double seconds[STAGES];  // of the last forward and backward pass
  Buffer splats;      // Splat [N]
  Buffer features;    // float [N, groups - 1, GROUP]: channels after the first four
  Buffer covers;      // Cover [N]
  Buffer slot_start;  // uint32_t [N + 1]
  Buffer keys, order, keys_swap, order_swap;  // uint32_t [N]
  Buffer tile_start;  // uint32_t [tiles + 1]
  Buffer tile_order;  // uint32_t [tiles], the fullest first
  Buffer pair_list;   // Pair [pairs], by tile, nearest first
  Buffer touched;     // uint64_t [pairs] blocks to which the pair contributed
  Buffer slots;       // float [pairs, slot size]
  Buffer slot_used;   // uint8_t [pairs]
  Buffer partial;     // double: sums per chunk or per tile
  Buffer tangents;    // float [N, TANGENT] (normal equations)
  Buffer scratch;     // per worker
};

struct Image {           // channel-first
  float* image;          // [channels without depth, H, W]
  float* alpha;          // [H, W]
  float* depth;          // [H, W] or null
  int32_t* radii;        // [N]
  const float* background;  // [channels without depth]
};

struct ImageGradient {
  const float* image;    // the rendering
  const float* alpha;
  const float* depth;
  const float* d_image;  // cotangents; null: zero
  const float* d_alpha;
  const float* d_depth;
};

struct Residual {         // normal equations
  const float* target;    // [3, H, W]
  const float* weights;   // [H, W] or null
  const float* background;  // [3]
  float huber;
};

struct NormalSums {
  double jtj[36], jtr[6], loss, weight;
  int64_t inliers, pixels;
};

struct AdamGroup {
  float* values;          // [rows, columns]
  const float* gradient;
  float* first;           // moments
  float* second;
  const float* rates;     // [columns]
  int64_t rows, columns;
};

constexpr int PLACES_AT_ONCE = 256;  // of a response map; `places` is a multiple of it

struct TemplateSearch {
  const uint8_t* memory;  // responses; at least `places` bytes follow each start
  const int32_t* starts;  // [templates, features] where each feature's responses begin
  const uint8_t* valid;   // [places] 255, or 0 where no template may lie
  int64_t templates, places;
  int features;           // their responses do not add up to more than 255
  uint8_t* best;          // [templates] the largest sum of each over the places
  int32_t* where;         // [templates] the first place that has it
};

struct Kernel {
  const char* name;
  // Both return false, with the number of pairs in the frame, when there are too many of them.
  bool (*rasterise)(Frame&, const Cloud&, const Image&, bool keep, int threads);
  bool (*normal_equations)(Frame&, const Cloud&, const Residual&, int32_t* radii, NormalSums&,
                           int threads);
  void (*backward)(Frame&, const Cloud&, const ImageGradient&, const CloudGradient&, int threads);
  double (*photometric)(const float* image, const float* target, float* gradient, int channels,
                        int height, int width, float ssim_weight, Buffer& scratch, int threads);
  void (*adam)(const AdamGroup* groups, int count, int64_t step, double beta1, double beta2,
               double epsilon, int threads);
  void (*template_peaks)(const TemplateSearch& search, int threads);
};

const Kernel& kernel_v4();
const Kernel& kernel_v3();
const Kernel& kernel_generic();

// The fastest variant that this processor and operating system can run, or the one named by
// SPLATPOSE_ISA (null when it cannot run here).
const Kernel* select_kernel(const char* wanted);

}  // namespace splatpose
