#include "backends/cuda/multiply.h"

#include <algorithm>
#include <vector>

#include "backends/cuda/parts.h"

namespace lowrank::cuda {
namespace {

/// Columns of the reduction that a part has at least where it is cut.
constexpr int64_t kLeastDepth = 256;

int64_t cuts_of(const GemmTile& tile, int64_t m, int64_t n, int64_t steps) {
  // Tiles of 128 x 128 are taken where there are enough of them.
  return tile.m * tile.n > 64 * 128 && tile.tiles(m, n) >= kBusyBlocks / 2
             ? 1
             : parts_of(tile.tiles(m, n), steps, kLeastDepth / tile.depth);
}

void multiply_own(Launcher& launcher, const Product& p, std::span<const ProductPart> parts, const Output& to,
                  Ptr<std::byte> workspace) {
  GemmArgs args = output_args(p.m, p.n, to);
  args.scale = p.scale;
  int64_t steps = 0;
  const GemmTile& tile = tile_of(p.layout, p.m, p.n);
  for (const ProductPart& part : parts) {
    if (part.k == 0) continue;
    args.segment[args.segments++] = {operand_of(part.x), operand_of(part.w), part.k};
    steps += ceil_div(part.k, tile.depth);
  }
  if (p.precision == Precision::f32) {
    constexpr KernelOf<GemmArgs> kKernels[] = {{"gemm_nt_f32"}, {"gemm_nn_f32"}, {"gemm_tn_f32"}};
    return launcher.launch(kKernels[static_cast<int>(p.layout)], {ceil_div(p.m, 64), ceil_div(p.n, 64)}, 256, args);
  }
  const int64_t cuts = cuts_of(tile, p.m, p.n, steps);
  if (cuts == 1) return multiply(launcher, tile, args);
  multiply(launcher, tile, part_args(args, workspace), cuts);
  add_parts_of(launcher, args, workspace, cuts);
}

// ---- by a library

bool is_served(const Card& card, const Product& p, const ProductPart& part) {
  const DType operand = operand_of(p.precision);
  return is_large(card, p.m, p.n, part.k) && part.x.dtype == operand && part.w.dtype == operand &&
         rows_aligned(part.x, 16) && rows_aligned(part.w, 16);
}

/// Small parts and the bias come first, by a kernel of our own; what is large is then added. So y is rounded once more
/// where it is bf16, by half a unit of the small terms. False, and y is still to be computed, where that is not so.
bool multiply_by_library(Launcher& launcher, const Product& p, Ptr<std::byte> workspace) {
  if (!launcher.has_library() || !rows_aligned(p.to.y, 16)) return false;
  std::vector<ProductPart> small, large;
  for (const ProductPart& part : p.parts) (is_served(launcher.card(), p, part) ? large : small).push_back(part);
  if (large.empty()) return false;
  const bool f32 = p.to.y.dtype == DType::f32;
  if (!f32 && (large.size() > 1 || p.to.residual)) return false;
  Matrix addend = f32_matrix(p.to.residual, p.to.residual_ld);
  const bool in_place = addend.data.address() == p.to.y.data.address();
  const bool lies_ready = rows_aligned(addend, 16) && (!in_place || addend.ld == p.to.y.ld);
  if (!small.empty() || p.to.bias || (addend.data && !lies_ready)) {
    multiply_own(launcher, p, small, p.to, workspace);
    addend = p.to.y;
  }
  for (const ProductPart& part : large) {
    if (!launcher.multiply({p.layout, p.m, p.n, part.k, part.x, part.w, p.to.y, p.scale, addend}, workspace)) {
      if (!f32) return false;
      Output to{p.to.y};
      to.residual = addend.data.as<float>();
      to.residual_ld = addend.ld;
      multiply_own(launcher, p, {&part, 1}, to, workspace);
    }
    addend = p.to.y;
  }
  return true;
}

}  // namespace

bool is_large(const Card& card, int64_t m, int64_t n, int64_t k) {
  return std::min({m, n, k}) >= card.library_side && m * n * k >= card.library_least;
}

void multiply(Launcher& launcher, const Product& p, Ptr<std::byte> workspace) {
  if (!multiply_by_library(launcher, p, workspace)) multiply_own(launcher, p, p.parts, p.to, workspace);
}

int64_t multiply_workspace(const Card& card, GemmLayout layout, Precision precision, int64_t m, int64_t n,
                           std::span<const int64_t> depths) {
  int64_t bytes = 0;
  for (const int64_t k : depths)
    if (is_large(card, m, n, k)) bytes = library_workspace(card.sm);
  if (precision == Precision::f32) return bytes;
  const auto steps_of = [&](int64_t depth) {
    int64_t steps = 0;
    for (const int64_t k : depths) steps += ceil_div(k, depth);
    return steps;
  };
  int64_t own = 0;
  if (layout == GemmLayout::tn) {
    const GemmTile& tile = tile_of(layout, m, n);
    const int64_t parts = most_parts_of(tile.tiles(m, n), steps_of(tile.depth), kLeastDepth / tile.depth);
    own = parts == 1 ? 0 : parts * m * n * int64_t{sizeof(float)};
  } else if (const int64_t most = std::min(kMostParts, steps_of(64) / (kLeastDepth / 64)); most > 1) {
    // Steps of the deepest tiles, in which short segments count most, in the largest tiles that are cut, 64 x 128.
    own = std::min(most * ceil_div(m, 64) * ceil_div(n, 128), kBusyBlocks) * 64 * 128 * int64_t{sizeof(float)};
  }
  return std::max(bytes, own);
}

GemmArgs output_args(int64_t m, int64_t n, const Output& to) {
  GemmArgs args{};
  args.m = m;
  args.n = n;
  args.y = device_pointer(to.y.data);
  args.y_ld = to.y.ld;
  args.bias = device_pointer(to.bias);
  args.residual = device_pointer(to.residual);
  args.residual_ld = to.residual_ld;
  args.scale = 1;
  args.y_is_bf16 = to.y.dtype == DType::bf16;
  args.wide = rows_aligned(to.y, 4 * size_of(to.y.dtype)) && to.bias.address() % 16 == 0 &&
              rows_aligned(f32_matrix(to.residual, to.residual ? to.residual_ld : 0), 16);
  return args;
}

GemmArgs part_args(GemmArgs args, Ptr<std::byte> room) {
  args.y = device_pointer(room);
  args.y_ld = args.n;
  args.bias = args.residual = nullptr;
  args.scale = 1;
  args.y_is_bf16 = 0;
  args.wide = args.n % 4 == 0;
  args.part_stride = args.m * args.n;
  return args;
}

void add_parts_of(Launcher& launcher, const GemmArgs& whole, Ptr<std::byte> room, int64_t parts) {
  AddPartsArgs args{};
  args.m = whole.m;
  args.n = whole.n;
  args.parts = parts;
  args.part = device_pointer(room.as<float>());
  args.part_stride = whole.m * whole.n;
  args.y = whole.y;
  args.y_ld = whole.y_ld;
  args.bias = whole.bias;
  args.residual = whole.residual;
  args.residual_ld = whole.residual_ld;
  args.scale = whole.scale;
  args.y_is_bf16 = whole.y_is_bf16;
  launcher.launch(add_parts, {ceil_div(whole.m * whole.n, 256)}, 256, args);
}

}  // namespace lowrank::cuda
