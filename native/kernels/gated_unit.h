// Products of a value and a function of another, the gate (Shazeer 2020, arXiv 2002.05202).
#pragma once

#include "core/lists.h"
#include "kernels/operands.h"

namespace lowrank {

/// out = f(gate) up. f(g) is, by function,
///   silu: g sigmoid(g);  gelu: g / 2 (1 + tanh(sqrt(2 / pi) (g + 0.044715 g^3)));  sigmoid: sigmoid(g);
///   relu2: max(0, g)^2 (So et al. 2021, arXiv 2109.08668).
struct GatedUnit {
  static constexpr const char* kName = "gated_unit";
  Activation function;
  int64_t rows, cols;
  Matrix gate, up, out;
  void operands(Operands& see) const {
    for (const Matrix& m : {gate, up}) see.reads(m, rows, cols);
    see.writes(out, rows, cols);
  }
};

/// dgate = dout up f'(gate), dup = dout f(gate); they may overwrite gate and up.
struct GatedUnitBackward {
  static constexpr const char* kName = "gated_unit_backward";
  Activation function;
  int64_t rows, cols;
  Matrix dout, gate, up, dgate, dup;
  void operands(Operands& see) const {
    for (const Matrix& m : {dout, gate, up}) see.reads(m, rows, cols);
    for (const Matrix& m : {dgate, dup}) see.writes(m, rows, cols);
  }
};

}  // namespace lowrank
