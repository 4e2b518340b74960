// Products whose factors lie ready, fp32 or bf16: by kernels of our own, or by a library where there is one.
#pragma once

#include <cstdint>
#include <span>

#include "backends/cuda/gemm.h"
#include "backends/cuda/gemm_tiles.h"
#include "backends/cuda/launcher.h"
#include "core/precision.h"
#include "kernels/gemm.h"

namespace lowrank::cuda {

struct ProductPart {
  Matrix x, w;
  int64_t k;
};
/// y [m, n] = scale * sum over parts of x w (+ bias) (+ residual).
struct Product {
  GemmLayout layout;
  Precision precision;
  int64_t m, n;
  std::span<const ProductPart> parts;
  Output to;
  float scale = 1;
};
/// True for a product that a library serves rather than a kernel of our own, as far as shapes say.
bool is_large(const Card& card, int64_t m, int64_t n, int64_t k);
void multiply(Launcher& launcher, const Product& product, Ptr<std::byte> workspace);
/// Bytes that it needs, never less for more rows, nor in nn and nt for more columns, nor in tn for a longer reduction.
/// @param depths of the reductions of all parts
int64_t multiply_workspace(const Card& card, GemmLayout layout, Precision precision, int64_t m, int64_t n,
                           std::span<const int64_t> depths);

// For launches of kernels of their own.

/// True if the address of every row is a multiple of `bytes`.
inline bool rows_aligned(const Matrix& m, int64_t bytes) {
  return (m.data.address() | static_cast<uint64_t>(m.ld * size_of(m.dtype))) % static_cast<uint64_t>(bytes) == 0;
}
inline GemmOperand operand_of(const Matrix& m) {
  return {device_pointer(m.data), m.ld, m.dtype == DType::f32, rows_aligned(m, 16)};
}
/// Arguments of a product without segments.
GemmArgs output_args(int64_t m, int64_t n, const Output& to);
/// The same for parts of it at `room`, fp32 and [m, n], one behind the other.
GemmArgs part_args(GemmArgs args, Ptr<std::byte> room);
/// Adds the parts to what `whole` says.
void add_parts_of(Launcher& launcher, const GemmArgs& whole, Ptr<std::byte> room, int64_t parts);

}  // namespace lowrank::cuda
