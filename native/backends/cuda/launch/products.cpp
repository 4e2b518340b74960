#include "backends/cuda/launch/products.h"

#include "backends/cuda/launch/dequantize.h"
#include "backends/cuda/launch/few_rows.h"
#include "backends/cuda/launch/gemm_tiles.h"
#include "backends/cuda/launch/operand.h"
#include "core/math.h"

namespace lowrank::cuda {
namespace {

constexpr int64_t kAligned = 256;
/// Fewer columns of the reduction than this are rounded where they are multiplied; more are rounded once, before.
constexpr int64_t kConvertedInPlace = 256;
/// Steps of the reduction that a part has at least.
constexpr int64_t kLeastSteps = 4, kLeastTokens = 256;

/// A product of activations with factors, which lie as [n, k] (nt) or [k, n] (nn).
struct Product {
  GemmLayout layout;
  Precision precision;
  int64_t m, n;
  std::span<const Segment> segments;
  const Output& to;

  int64_t depth(const Segment& s) const { return layout == GemmLayout::nt ? s.w.cols : s.w.rows; }
  DType decoded() const { return operand_of(precision); }
};
Product product_of(const GemmNt& k) { return {GemmLayout::nt, k.precision, k.m, k.n, k.segments, k.to}; }
Product product_of(const GemmNn& k) { return {GemmLayout::nn, k.precision, k.m, k.n, k.segments, k.to}; }

/// True for a factor that may have to be decoded before, as far as shapes say.
bool may_decode(const Product& p, const Segment& s) {
  return s.w.weight >= 0 || (p.precision == Precision::bf16 && p.depth(s) > kConvertedInPlace);
}
bool decodes(const Product& p, const Segment& s, const DeviceWeight& w) {
  if (!may_decode(p, s)) return false;
  if (p.precision == Precision::f32) return w.format != DeviceFormat::f32 && w.format != DeviceFormat::bf16;
  return w.format != DeviceFormat::bf16;
}

/// How a product is cut into slices of the outputs, for which the factors that need it are decoded.
struct Slices {
  int64_t outputs;  // of a slice
  int64_t bytes;    // of the decoded slices of all segments
};
int64_t decoded_bytes(const Product& p, const Segment& s, int64_t outputs) {
  const bool nt = p.layout == GemmLayout::nt;
  const int64_t rows = nt ? outputs : p.depth(s), cols = nt ? p.depth(s) : outputs;
  return round_up(rows * round_up(cols, 64) * size_of(p.decoded()), kAligned);
}
Slices slices_of(const Card& card, const Product& p) {
  const auto bytes_of_all = [&](int64_t outputs) {
    int64_t bytes = 0;
    for (const Segment& s : p.segments)
      if (may_decode(p, s)) bytes += decoded_bytes(p, s, outputs);
    return bytes;
  };
  constexpr int64_t kUnit = 256;
  const int64_t per_unit = bytes_of_all(kUnit);
  const int64_t units = per_unit == 0 ? p.n : std::max<int64_t>(1, card.decoded_bytes / per_unit);
  const int64_t outputs = std::min(p.n, units * kUnit);
  return {outputs, bytes_of_all(outputs)};
}

int64_t steps_of(const Product& p, int64_t depth) {
  int64_t steps = 0;
  for (const Segment& s : p.segments) steps += ceil_div(p.depth(s), depth);
  return steps;
}

/// The most that the parts of sums take for so many rows, and for fewer of them.
int64_t parts_bytes(const Product& p) {
  if (p.precision == Precision::f32) return 0;
  const GemmTile& tile = tile_of(p.layout, std::min<int64_t>(p.m, 64), p.n);
  const int64_t most = std::min(kMostParts, steps_of(p, tile.depth) / kLeastSteps);
  if (most < 2) return 0;
  return std::min(most * tile.tiles(p.m, p.n), kBusyBlocks) * tile.m * tile.n * int64_t{sizeof(float)};
}

int64_t workspace_of(const Card& card, const Product& p) {
  return std::max(slices_of(card, p).bytes + parts_bytes(p), few_rows_workspace(p.layout == GemmLayout::nt, p.n, p.segments));
}

/// The part of y, bias and residual that begins with a column.
Output columns_of(const Output& to, int64_t first) {
  return {to.y.columns(first), to.bias ? to.bias + first : to.bias, to.residual ? to.residual + first : to.residual,
          to.residual_ld};
}

/// Multiplies what needs no more decoding, by parts where tiles are few.
void multiply_parts(Launcher& launcher, const GemmTile& tile, GemmArgs args, int64_t parts, Ptr<std::byte> room) {
  if (parts == 1) return multiply(launcher, tile, args);
  const GemmArgs whole = args;
  args.y = device_pointer(room);
  args.y_ld = args.n;
  args.bias = args.residual = nullptr;
  args.scale = 1;
  args.y_is_bf16 = 0;
  args.wide = args.n % 4 == 0;
  args.part_stride = args.m * args.n;
  multiply(launcher, tile, args, parts);
  add_parts_of(launcher, whole, device_pointer(room.as<float>()), parts, args.part_stride);
}

void run_product(Launcher& launcher, const Weights& weights, const Product& p, Ptr<std::byte> workspace) {
  if (p.m == 0 || p.n == 0) return;
  if (p.segments.size() > kMostSegments)
    fail("INTERNAL", "a product has ", p.segments.size(), " segments; expected at most ", kMostSegments);
  if (p.layout == GemmLayout::nt &&
      multiply_few_rows(launcher, weights, p.precision, p.m, p.n, p.segments, p.to, workspace))
    return;
  const Slices slices = slices_of(launcher.card(), p);
  const bool nt = p.layout == GemmLayout::nt;
  for (int64_t first = 0; first < p.n; first += slices.outputs) {
    const int64_t count = std::min(slices.outputs, p.n - first);
    GemmArgs args = output_args(p.m, count, columns_of(p.to, first));
    Ptr<std::byte> room = workspace;
    for (const Segment& s : p.segments) {
      if (p.depth(s) == 0) continue;
      DeviceWeight w = device_weight(weights, s.w);
      if (nt) w = rows_of(w, first, count);
      Matrix factor;
      if (decodes(p, s, w)) {
        factor = {room, p.decoded(), round_up(nt ? w.cols : count, 64)};
        dequantize(launcher, w, nt ? 0 : first, nt ? w.cols : count, factor);
        room = room + decoded_bytes(p, s, count);
      } else {
        factor = dense_matrix(w).columns(nt ? 0 : first);
      }
      args.segment[args.segments++] = {operand_of(s.x), operand_of(factor), p.depth(s)};
    }
    if (p.precision == Precision::f32) {
      multiply_f32(launcher, p.layout, args);
      continue;
    }
    const GemmTile& tile = tile_of(p.layout, p.m, p.n);
    const int64_t parts = tile.m == 128 ? 1 : parts_of(tile.tiles(p.m, count), steps_of(p, tile.depth), kLeastSteps);
    multiply_parts(launcher, tile, args, parts, workspace + slices.bytes);
  }
}

/// out [m, n] of u and x, which change places where the result is transposed.
struct Reduction {
  int64_t m, n;
  Matrix u, x;
  const GemmTile& tile;
  int64_t parts, most_parts;
};
Reduction reduction_of(const ReduceTokens& k) {
  const int64_t m = k.transposed ? k.n : k.r, n = k.transposed ? k.r : k.n;
  const GemmTile& tile = tile_of(GemmLayout::tn, m, n);
  Reduction r{m, n, k.transposed ? k.x : k.u, k.transposed ? k.u : k.x, tile, 1, 1};
  if (k.precision == Precision::f32) return r;
  const int64_t tiles = tile.tiles(m, n), steps = ceil_div(k.tokens, tile.depth), least = kLeastTokens / tile.depth;
  r.parts = parts_of(tiles, steps, least);
  r.most_parts = most_parts_of(tiles, steps, least);
  return r;
}

PairArgs pair_args(const Pair& pair, Ptr<float> row_gains) {
  PairArgs args{};
  args.rows = pair.rows;
  args.cols = pair.cols;
  args.rank = pair.rank;
  args.rank2 = pair.rank2;
  args.b = device_pointer(pair.b);
  args.a = device_pointer(pair.a);
  args.b2 = device_pointer(pair.b2);
  args.a2 = device_pointer(pair.a2);
  args.row_gains = device_pointer(row_gains);
  return args;
}
constexpr int kSimtSide = 64, kSimtThreads = 256;
Grid simt_grid(int64_t m, int64_t n) { return {ceil_div(m, kSimtSide), ceil_div(n, kSimtSide)}; }

}  // namespace

void run(Launcher& launcher, const Weights& weights, const GemmNt& k, Ptr<std::byte> workspace) {
  run_product(launcher, weights, product_of(k), workspace);
}
void run(Launcher& launcher, const Weights& weights, const GemmNn& k, Ptr<std::byte> workspace) {
  run_product(launcher, weights, product_of(k), workspace);
}
int64_t workspace(const Card& card, const GemmNt& k) { return workspace_of(card, product_of(k)); }
int64_t workspace(const Card& card, const GemmNn& k) { return workspace_of(card, product_of(k)); }

void run(Launcher& launcher, const ReduceTokens& k, Ptr<std::byte> workspace) {
  if (k.tokens == 0) return;
  const Reduction r = reduction_of(k);
  GemmArgs args = output_args(r.m, r.n, {f32_matrix(k.out, k.ld), {}, k.out, k.ld});
  args.scale = k.scale;
  args.segment[args.segments++] = {operand_of(r.u), operand_of(r.x), k.tokens};
  if (k.precision == Precision::f32) return multiply_f32(launcher, GemmLayout::tn, args);
  multiply_parts(launcher, r.tile, args, r.parts, workspace);
}
int64_t workspace(const Card&, const ReduceTokens& k) {
  const Reduction r = reduction_of(k);
  return r.most_parts == 1 ? 0 : r.most_parts * r.m * r.n * int64_t{sizeof(float)};
}

void run(Launcher& launcher, const Weights& weights, const AddPair& k, Ptr<std::byte>) {
  PairArgs args = pair_args(k.pair, k.row_gains);
  args.scale = k.scale;
  args.out = device_pointer(k.out);
  args.has_base = k.base.rows > 0;
  if (args.has_base != 0)
    dequantize(launcher, device_weight(weights, k.base), 0, k.pair.cols, f32_matrix(k.out, k.pair.cols));
  launcher.launch(add_pair, simt_grid(args.rows, args.cols), kSimtThreads, args);
}
void run(Launcher& launcher, const SplitPair& k, Ptr<std::byte>) {
  PairArgs args = pair_args(k.pair, k.row_gains);
  args.out = device_pointer(k.g);
  args.second = device_pointer(k.second);
  launcher.launch(split_pair, simt_grid(args.rows, args.cols), kSimtThreads, args);
}

}  // namespace lowrank::cuda
