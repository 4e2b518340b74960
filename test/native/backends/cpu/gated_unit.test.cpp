// Gated units, every function, level, and operand type, against their definitions in double; gradients also against
// finite differences.
#include <algorithm>
#include <functional>
#include <numbers>

#include "kernel_cases.h"

namespace lowrank::test {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double silu(double x) { return x * sigmoid(x); }
double gelu(double x) { return x / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x))); }
double relu2(double x) { return x < 0 ? 0 : x * x; }

struct Function {
  Activation name;
  double (*value)(double);
  /// A gate beyond the range of the exponential, and the slope there; trained models have gates of thousands.
  double far, slope;
};
constexpr Function kFunctions[] = {{Activation::silu, silu, 500, 1},
                                   {Activation::gelu, gelu, 3000, 1},
                                   {Activation::sigmoid, sigmoid, 500, 0},
                                   {Activation::relu2, relu2, 500, 1000}};
static_assert(std::size(kFunctions) == std::size(kActivationNames));

}  // namespace

TEST("a gated unit follows its definition, also for gates beyond the range of the exponential") {
  for (const Function& function : kFunctions)
    for_cases([&](cpu::Level level, DType dtype, int64_t cols, Random& random) {
      Pool pool(2);
      Tensor gate(dtype, kRows, cols, random, 3.0), up(dtype, kRows, cols, random), out(dtype, kRows, cols);
      gate.set(0, 0, function.far);
      gate.set(1, 0, -function.far);
      gate.set(2, 0, -95.0);
      const std::vector<double> g = gate.values(), u = up.values();
      std::vector<double> expected;
      for (size_t i = 0; i < g.size(); ++i) expected.push_back(function.value(g[i]) * u[i]);
      run(level, pool, GatedUnit{function.name, kRows, cols, gate.at(), up.at(), out.at()});
      CHECK_ALL_CLOSE(out.values(), expected, tolerance(dtype));
      CHECK_LE(std::fabs(out.get(1, 0)), 1e-30);
      CHECK(out.spare_untouched());
    });
}

TEST("a gated unit's backward pass gives the gradients of both factors, in place too") {
  for (const Function& function : kFunctions)
    for_cases([&](cpu::Level level, DType dtype, int64_t cols, Random& random) {
      Pool pool(2);
      Tensor gate(dtype, kRows, cols, random, 2.0), up(dtype, kRows, cols, random), dout(dtype, kRows, cols, random);
      gate.set(0, 0, -200.0);
      const std::vector<double> g = gate.values(), u = up.values(), d = dout.values();
      std::vector<double> expected_gate, expected_up;
      for (size_t i = 0; i < g.size(); ++i) {
        expected_gate.push_back(d[i] * u[i] * (function.value(g[i] + 1e-5) - function.value(g[i] - 1e-5)) / 2e-5);
        expected_up.push_back(d[i] * function.value(g[i]));
      }
      Tensor dgate(dtype, kRows, cols), dup(dtype, kRows, cols);
      const auto backward = [&](Tensor& from, Tensor& to, Tensor& to_up) {
        run(level, pool,
            GatedUnitBackward{function.name, kRows, cols, dout.at(), from.at(), up.at(), to.at(), to_up.at()});
      };
      backward(gate, dgate, dup);
      CHECK_ALL_CLOSE(dgate.values(), expected_gate, tolerance(dtype));
      CHECK_ALL_CLOSE(dup.values(), expected_up, tolerance(dtype));
      Tensor far = gate;
      far.set(0, 0, function.far);
      far.set(1, 0, -function.far);
      Tensor dfar(dtype, kRows, cols), other(dtype, kRows, cols);
      backward(far, dfar, other);
      const double slope = dout.get(0, 0) * up.get(0, 0) * function.slope;
      CHECK_LE(std::fabs(dfar.get(0, 0) - slope), tolerance(dtype) * std::fabs(slope) + 1e-30);
      CHECK_LE(std::fabs(dfar.get(1, 0)), 1e-30);
      backward(gate, gate, up);
      CHECK(gate == dgate);
      CHECK(up == dup);
    });
}

TEST("a gated unit hands on what is not a number") {
  for (const Function& function : kFunctions)
    for_cases([&](cpu::Level level, DType dtype, int64_t cols, Random& random) {
      Pool pool(2);
      Tensor gate(dtype, kRows, cols, random), up(dtype, kRows, cols, random), out(dtype, kRows, cols);
      gate.set(0, 0, std::nan(""));
      run(level, pool, GatedUnit{function.name, kRows, cols, gate.at(), up.at(), out.at()});
      CHECK(std::isnan(out.get(0, 0)));
    });
}

}  // namespace lowrank::test
