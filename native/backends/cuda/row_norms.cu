// Sums in double over rows of weights, of adapters and of activations.
#include "device_weight.h"

namespace lowrank::cuda {

/// out[i] = ||W_i + B_i A|| as in AdaptedRowNorms of kernels/row_norms.h; or, where `own` is there, own[i] =
/// ||W_i||^2.
struct RowNormsArgs {
  DeviceWeight w;
  double* own;
  const float* a;
  int64_t a_ld;
  const float* b;
  int64_t rank;
  const double* squares;
  const float* products;
  const double* gram;
  float* out;
};

struct GramArgs {
  int64_t rank, cols;
  const float* a;
  int64_t ld;
  double* out;
};

/// Sums of stretches of tokens, then moment += their sum.
struct SecondMomentArgs {
  int64_t tokens, rank, stretch, stretches;
  const void* h;
  int64_t ld;
  int64_t bf16;
  double *parts, *moment;
};

}  // namespace lowrank::cuda

#if LOWRANK_ON_DEVICE
#include "decode.cuh"
#include "device.cuh"

namespace lowrank::cuda {
namespace {

constexpr double kCanceled = 0.01;  // of ||W_i||^2: below, the difference of large numbers has lost its digits
constexpr double kSmallestSquare = 1e-30;

/// ||W_i + B_i A||^2 from the row itself, by a warp.
template <DeviceFormat kFormat>
LOWRANK_DEVICE double formed_square(const RowNormsArgs& args, const Codebooks& books, int64_t row, int64_t rank) {
  const int lane = static_cast<int>(threadIdx.x) & 31;
  double sum = 0;
  for (int64_t column = 8 * lane; column < args.w.cols; column += 256) {
    float values[8];
    decode_eight<kFormat>(args.w, books, stored_row(args.w, row), column, values);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (column + i >= args.w.cols) continue;
      double value = values[i];
      for (int64_t j = 0; j < rank; ++j)
        value += static_cast<double>(args.b[row * rank + j]) * args.a[j * args.a_ld + column + i];
      sum += value * value;
    }
  }
  return warp_sum(sum);
}

template <DeviceFormat kFormat>
LOWRANK_DEVICE void row_norms(const RowNormsArgs& args) {
  const Codebooks books = codebooks_of<kFormat>(args.w);
  const int64_t row = int64_t{blockIdx.x} * 8 + (threadIdx.x >> 5), rank = args.rank;
  if (row >= args.w.rows) return;
  const int lane = static_cast<int>(threadIdx.x) & 31;
  if (args.own) {
    const double square = formed_square<kFormat>(args, books, row, 0);
    if (lane == 0) args.own[row] = square;
    return;
  }
  const float* const b = args.b + row * rank;
  double cross = 0, own = 0;
  for (int64_t j = lane; j < rank; j += 32) {
    cross += static_cast<double>(b[j]) * args.products[j * args.w.rows + row];
    double sum = 0;
    for (int64_t k = 0; k < rank; ++k) sum += args.gram[j * rank + k] * b[k];
    own += b[j] * sum;
  }
  double square = args.squares[row] + 2 * warp_sum(cross) + warp_sum(own);
  if (square < kCanceled * args.squares[row]) square = formed_square<kFormat>(args, books, row, rank);
  if (lane == 0) args.out[row] = static_cast<float>(sqrt(square > kSmallestSquare ? square : kSmallestSquare));
}

LOWRANK_DEVICE double value_at(const SecondMomentArgs& args, int64_t token, int64_t j) {
  return element(args.h, static_cast<int>(args.bf16), token * args.ld + j);
}

}  // namespace

#define LOWRANK_ROW_NORMS(format) \
  LOWRANK_KERNEL(row_norms_##format, RowNormsArgs, 256, 2) { row_norms<DeviceFormat::format>(args); }
LOWRANK_WEIGHT_FORMATS(LOWRANK_ROW_NORMS)

/// A warp a pair of rows.
LOWRANK_KERNEL(gram, GramArgs, 256, 4) {
  const int64_t pair = int64_t{blockIdx.x} * 8 + (threadIdx.x >> 5), i = pair / args.rank, j = pair % args.rank;
  if (i >= args.rank || j > i) return;
  double sum = 0;
  for (int64_t c = threadIdx.x & 31; c < args.cols; c += 32)
    sum += static_cast<double>(args.a[i * args.ld + c]) * args.a[j * args.ld + c];
  sum = warp_sum(sum);
  if ((threadIdx.x & 31) == 0) args.out[i * args.rank + j] = args.out[j * args.rank + i] = sum;
}

/// A thread a pair of ranks and stretch of tokens.
LOWRANK_KERNEL(second_moment, SecondMomentArgs, 256, 2) {
  const int64_t pair = int64_t{blockIdx.x} * 256 + threadIdx.x, pairs = args.rank * args.rank;
  if (pair >= pairs) return;
  const int64_t i = pair / args.rank, j = pair % args.rank;
  const int64_t begin = int64_t{blockIdx.y} * args.stretch, end = min(begin + args.stretch, args.tokens);
  double sum = 0;
  for (int64_t token = begin; token < end; ++token) sum += value_at(args, token, i) * value_at(args, token, j);
  args.parts[blockIdx.y * pairs + pair] = sum;
}
LOWRANK_KERNEL(add_second_moment, SecondMomentArgs, 256, 4) {
  const int64_t pair = int64_t{blockIdx.x} * 256 + threadIdx.x, pairs = args.rank * args.rank;
  if (pair >= pairs) return;
  double sum = args.moment[pair];
  for (int64_t part = 0; part < args.stretches; ++part) sum += args.parts[part * pairs + pair];
  args.moment[pair] = sum;
}

}  // namespace lowrank::cuda

#else
#include "backends/cuda/runs.h"

#include <algorithm>

#include "backends/cuda/parts.h"
#include "backends/cuda/weight.h"

namespace lowrank::cuda {
namespace {

constexpr auto gram = kernel_of<GramArgs>("gram");
constexpr auto second_moment = kernel_of<SecondMomentArgs>("second_moment");
constexpr auto add_second_moment = kernel_of<SecondMomentArgs>("add_second_moment");

// In the order of DeviceFormat.
#define LOWRANK_ROW_NORMS(format) kernel_of<RowNormsArgs>("row_norms_" #format),
constexpr KernelOf<RowNormsArgs> kRowNorms[] = {LOWRANK_WEIGHT_FORMATS(LOWRANK_ROW_NORMS)};
#undef LOWRANK_ROW_NORMS

void launch_rows(Launcher& launcher, const RowNormsArgs& args) {
  launcher.launch(kRowNorms[static_cast<int>(args.w.format)], {ceil_div(args.w.rows, 8)}, 256, args);
}

/// Stretches of tokens whose products are added apart, as many as there may be.
int64_t stretches_of(const SecondMoment& k) {
  const int64_t most = std::clamp<int64_t>((int64_t{1} << 19) / std::max<int64_t>(k.rank * k.rank, 1), 1, 64);
  return std::clamp<int64_t>(ceil_div(k.tokens, 32), 1, most);
}

}  // namespace

void run(Launcher& launcher, const RowSquares& k, Ptr<std::byte>) {
  RowNormsArgs args{};
  args.w = device_weight(launcher.weights(), k.w);
  args.own = device_pointer(k.out);
  launch_rows(launcher, args);
}

void run(Launcher& launcher, const AdaptedRowNorms& k, Ptr<std::byte>) {
  RowNormsArgs args{};
  args.w = device_weight(launcher.weights(), k.w);
  args.a = device_pointer(k.a);
  args.a_ld = k.a_ld;
  args.b = device_pointer(k.b);
  args.rank = k.rank;
  args.squares = device_pointer(k.squares);
  args.products = device_pointer(k.products);
  args.gram = device_pointer(k.gram);
  args.out = device_pointer(k.out);
  launch_rows(launcher, args);
}

void run(Launcher& launcher, const Gram& k, Ptr<std::byte>) {
  const GramArgs args{k.rank, k.cols, device_pointer(k.a), k.ld, device_pointer(k.out)};
  launcher.launch(gram, {ceil_div(k.rank * k.rank, 8)}, 256, args);
}

int64_t workspace(const Card&, const SecondMoment& k) { return round_up(stretches_of(k) * k.rank * k.rank * 8, 256); }

void run(Launcher& launcher, const SecondMoment& k, Ptr<std::byte> workspace) {
  SecondMomentArgs args{};
  args.tokens = k.tokens;
  args.rank = k.rank;
  args.stretch = std::max<int64_t>(ceil_div(k.tokens, stretches_of(k)), 1);
  args.stretches = ceil_div(k.tokens, args.stretch);
  args.h = device_pointer(k.h.data);
  args.ld = k.h.ld;
  args.bf16 = k.h.dtype == DType::bf16;
  args.parts = device_pointer(workspace.as<double>());
  args.moment = device_pointer(k.moment);
  const int64_t blocks = ceil_div(k.rank * k.rank, 256);
  launcher.launch(second_moment, {blocks, args.stretches}, 256, args);
  launcher.launch(add_second_moment, {blocks}, 256, args);
}

}  // namespace lowrank::cuda

#endif
