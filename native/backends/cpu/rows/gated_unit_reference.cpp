#include "backends/cpu/reference.h"

namespace lowrank::cpu {
namespace {

/// An activation and its derivative.
struct Slope {
  double value, slope;
};
Slope silu(double g) {
  const double s = sigmoid(g);
  return {g * s, s * (1.0 + g * (1.0 - s))};
}
/// (1 + tanh(z)) / 2 is sigmoid(2 z).
Slope gelu(double g) {
  constexpr double kTwice = 2 * 0.7978845608028654, kCube = 0.044715;
  const double s = sigmoid(kTwice * (g + kCube * g * g * g));
  return {g * s, s + g * s * (1.0 - s) * kTwice * (1 + 3 * kCube * g * g)};
}
Slope sigmoid_slope(double g) { return {sigmoid(g), sigmoid(g) * sigmoid(-g)}; }
Slope relu2(double g) {
  const double above = g < 0 ? 0 : g;
  return {above * above, 2 * above};
}

/// body(f), chosen once for all elements.
template <class Body>
void with_activation(Activation function, Body&& body) {
  switch (function) {
    case Activation::silu:
      return body([](double g) { return silu(g); });
    case Activation::gelu:
      return body([](double g) { return gelu(g); });
    case Activation::sigmoid:
      return body([](double g) { return sigmoid_slope(g); });
    case Activation::relu2:
      return body([](double g) { return relu2(g); });
  }
}

}  // namespace

void reference(const Cpu& cpu, const GatedUnit& k) {
  with_activation(k.function, [&](auto f) {
    for_rows(cpu, k.rows, k.cols, [&](int64_t row) {
      for (int64_t col = 0; col < k.cols; ++col)
        set(k.out, row, col, f(get(k.gate, row, col)).value * get(k.up, row, col));
    });
  });
}

void reference(const Cpu& cpu, const GatedUnitBackward& k) {
  with_activation(k.function, [&](auto f) {
    for_rows(cpu, k.rows, k.cols, [&](int64_t row) {
      for (int64_t col = 0; col < k.cols; ++col) {
        const double u = get(k.up, row, col), d = get(k.dout, row, col);
        const auto [value, slope] = f(get(k.gate, row, col));
        set(k.dgate, row, col, d * u * slope);
        set(k.dup, row, col, d * value);
      }
    });
  });
}

}  // namespace lowrank::cpu
