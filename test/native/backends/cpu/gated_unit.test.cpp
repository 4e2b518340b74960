// Gated units, every level and operand type, against their definitions in double; gradients also against finite
// differences.
#include <algorithm>
#include <functional>
#include <numbers>

#include "kernel_cases.h"

namespace lowrank::test {
namespace {

double silu(double x) { return x / (1 + std::exp(-x)); }
double gelu(double x) { return x / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x))); }

}  // namespace

TEST("gated_unit with silu follows its definition, also for gates beyond the range of the exponential") {
  for_cases([](cpu::Level level, DType dtype, int64_t cols, Random& random) {
    Pool pool(2);
    Tensor gate(dtype, kRows, cols, random, 3.0), up(dtype, kRows, cols, random), out(dtype, kRows, cols);
    gate.set(0, 0, 500.0);
    gate.set(1, 0, -500.0);
    gate.set(2, 0, -95.0);
    std::vector<double> expected;
    for (int64_t row = 0; row < kRows; ++row) {
      for (int64_t col = 0; col < cols; ++col) expected.push_back(silu(gate.get(row, col)) * up.get(row, col));
    }
    run(level, pool, GatedUnit{Activation::silu, kRows, cols, gate.at(), up.at(), out.at()});
    CHECK_ALL_CLOSE(out.values(), expected, tolerance(dtype));
    CHECK_LE(std::fabs(out.get(1, 0)), 1e-30);
    CHECK(out.spare_untouched());
  });
}

TEST("gated_unit_backward with silu gives the gradients of both factors, in place too") {
  for_cases([](cpu::Level level, DType dtype, int64_t cols, Random& random) {
    Pool pool(2);
    Tensor gate(dtype, kRows, cols, random, 2.0), up(dtype, kRows, cols, random), dout(dtype, kRows, cols, random);
    gate.set(0, 0, -200.0);
    const std::vector<double> g = gate.values(), u = up.values(), d = dout.values();
    std::vector<double> expected_gate, expected_up;
    for (size_t i = 0; i < g.size(); ++i) {
      expected_gate.push_back(d[i] * u[i] * (silu(g[i] + 1e-5) - silu(g[i] - 1e-5)) / 2e-5);
      expected_up.push_back(d[i] * silu(g[i]));
    }
    Tensor dgate(dtype, kRows, cols), dup(dtype, kRows, cols);
    run(level, pool,
        GatedUnitBackward{Activation::silu, kRows, cols, dout.at(), gate.at(), up.at(), dgate.at(), dup.at()});
    CHECK_ALL_CLOSE(dgate.values(), expected_gate, tolerance(dtype));
    CHECK_ALL_CLOSE(dup.values(), expected_up, tolerance(dtype));
    run(level, pool,
        GatedUnitBackward{Activation::silu, kRows, cols, dout.at(), gate.at(), up.at(), gate.at(), up.at()});
    CHECK(gate == dgate);
    CHECK(up == dup);
  });
}

TEST("gated_unit with gelu follows its definition, and its gradient, in place too") {
  for_cases([](cpu::Level level, DType dtype, int64_t cols, Random& random) {
    Pool pool(2);
    Tensor gate(dtype, kRows, cols, random, 3.0), up(dtype, kRows, cols, random), out(dtype, kRows, cols);
    Tensor dout(dtype, kRows, cols, random);
    const std::vector<double> g = gate.values(), u = up.values(), d = dout.values();
    std::vector<double> expected, expected_gate, expected_up;
    for (size_t i = 0; i < g.size(); ++i) {
      expected.push_back(gelu(g[i]) * u[i]);
      expected_gate.push_back(d[i] * u[i] * (gelu(g[i] + 1e-5) - gelu(g[i] - 1e-5)) / 2e-5);
      expected_up.push_back(d[i] * gelu(g[i]));
    }
    run(level, pool, GatedUnit{Activation::gelu, kRows, cols, gate.at(), up.at(), out.at()});
    CHECK_ALL_CLOSE(out.values(), expected, tolerance(dtype));
    CHECK(out.spare_untouched());
    Tensor dgate(dtype, kRows, cols), dup(dtype, kRows, cols);
    run(level, pool,
        GatedUnitBackward{Activation::gelu, kRows, cols, dout.at(), gate.at(), up.at(), dgate.at(), dup.at()});
    CHECK_ALL_CLOSE(dgate.values(), expected_gate, tolerance(dtype));
    CHECK_ALL_CLOSE(dup.values(), expected_up, tolerance(dtype));
    // Gates of trained models reach thousands, where the slope is 1 or 0 and a factor of it grows with their cube.
    Tensor far = gate;
    for (const auto& [row, value] : {std::pair(0, 3000.0), {1, -3000.0}, {2, 60.0}}) far.set(row, 0, value);
    Tensor dfar(dtype, kRows, cols);
    run(level, pool,
        GatedUnitBackward{Activation::gelu, kRows, cols, dout.at(), far.at(), up.at(), dfar.at(), dup.at()});
    for (const int row : {0, 2}) {
      const double slope = dout.get(row, 0) * up.get(row, 0);
      CHECK_LE(std::fabs(dfar.get(row, 0) - slope), tolerance(dtype) * std::fabs(slope));
    }
    CHECK_LE(std::fabs(dfar.get(1, 0)), 1e-30);
    run(level, pool,
        GatedUnitBackward{Activation::gelu, kRows, cols, dout.at(), gate.at(), up.at(), gate.at(), up.at()});
    CHECK(gate == dgate);
  });
}

TEST("glu follows its definition, and its gradient, in place too") {
  for_cases([](cpu::Level level, DType dtype, int64_t cols, Random& random) {
    Pool pool(2);
    Tensor gate(dtype, kRows, cols, random, 3.0), up(dtype, kRows, cols, random), out(dtype, kRows, cols);
    Tensor dout(dtype, kRows, cols, random);
    const std::vector<double> g = gate.values(), u = up.values(), d = dout.values();
    std::vector<double> expected, expected_gate, expected_up;
    for (size_t i = 0; i < g.size(); ++i) {
      const double s = 1 / (1 + std::exp(-g[i]));
      expected.push_back(s * u[i]);
      expected_gate.push_back(d[i] * u[i] * s * (1 - s));
      expected_up.push_back(d[i] * s);
    }
    run(level, pool, GatedUnit{Activation::sigmoid, kRows, cols, gate.at(), up.at(), out.at()});
    CHECK_ALL_CLOSE(out.values(), expected, tolerance(dtype));
    CHECK(out.spare_untouched());
    Tensor dgate(dtype, kRows, cols), dup(dtype, kRows, cols);
    run(level, pool,
        GatedUnitBackward{Activation::sigmoid, kRows, cols, dout.at(), gate.at(), up.at(), dgate.at(), dup.at()});
    CHECK_ALL_CLOSE(dgate.values(), expected_gate, tolerance(dtype));
    CHECK_ALL_CLOSE(dup.values(), expected_up, tolerance(dtype));
    run(level, pool,
        GatedUnitBackward{Activation::sigmoid, kRows, cols, dout.at(), gate.at(), up.at(), gate.at(), up.at()});
    CHECK(gate == dgate);
    CHECK(up == dup);
  });
}

}  // namespace lowrank::test
