#include "decode.cuh"
#include "device.cuh"
#include "row_norms.h"

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

LOWRANK_DEVICE double element(const SecondMomentArgs& args, int64_t token, int64_t j) {
  const int64_t at = token * args.ld + j;
  return args.bf16 ? to_float(static_cast<const __nv_bfloat16*>(args.h)[at]) : static_cast<const float*>(args.h)[at];
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
  for (int64_t token = begin; token < end; ++token) sum += element(args, token, i) * element(args, token, j);
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
