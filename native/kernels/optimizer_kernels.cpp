// The operands of the optimizer's kernels.
#include "kernels/optimizer_kernels.h"

#include "kernels/operands.h"

namespace lowrank {
namespace {

void pieces(Operands& see, std::span<const UpdatePiece> all) {
  for (const UpdatePiece& piece : all) {
    see.reads(f32_matrix(piece.gradient, piece.stride), piece.count, 1);
    see.adds(f32_matrix(piece.p, piece.stride), piece.count, 1);
    piece.m.adds(see, piece.count, piece.stride);
    piece.v.adds(see, piece.count, piece.stride);
  }
}

}  // namespace

void Moments::adds(Operands& see, int64_t count, int64_t stride) const {
  see.adds(f32_matrix(floats, stride), count, 1);
  see.adds(codes, count);
  see.adds(absmax, (count + kMomentBlock - 1) / kMomentBlock);
}

void AdamW::operands(Operands& see) const { lowrank::pieces(see, pieces); }
void Sgd::operands(Operands& see) const { lowrank::pieces(see, pieces); }
void Lion::operands(Operands& see) const { lowrank::pieces(see, pieces); }
void Adafactor::operands(Operands& see) const {
  see.reads(gradient, rows * cols);
  see.adds(row, rows);
  see.adds(column, cols);
  see.adds(v, rows * cols);
  see.adds(p, rows * cols);
}
void SumOfSquares::operands(Operands& see) const {
  see.reads(x, count);
  see.writes(out, 1);
}
void ProjectGradient::operands(Operands& see) const {
  see.reads(a, rank * cols);
  see.adds(gradient, rows * rank);
}
void Orthogonal::operands(Operands& see) const {
  for (const OrthogonalPiece& piece : pieces) {
    see.reads(piece.x, piece.rows * piece.rank);
    see.adds(piece.gradient, piece.rows * piece.rank);
  }
}
void FollowImportances::operands(Operands& see) const {
  see.reads(value, count);
  see.reads(gradient, count);
  see.adds(sensitivity, count);
  see.adds(uncertainty, count);
}

}  // namespace lowrank
