// Numbers of about 106 bits as sums of two doubles, using only additions and products rounded to nearest and no fused
// ones, so that compilers can compute tables and all CPUs give the same bits. Sources: Dekker, "A floating-point
// technique for extending the available precision" (1971), and Knuth, The Art of Computer Programming, volume 2, 4.2.2.
#pragma once

namespace lowrank {

/// high + low, where high is the sum rounded to a double.
struct DoubleDouble {
  double high = 0, low = 0;
};

/// a + b exactly, where |a| >= |b| or a is 0.
constexpr DoubleDouble fast_two_sum(double a, double b) {
  const double sum = a + b;
  return {sum, b - (sum - a)};
}

/// a + b exactly.
constexpr DoubleDouble two_sum(double a, double b) {
  const double sum = a + b, of_b = sum - a;
  return {sum, (a - (sum - of_b)) + (b - of_b)};
}

/// The upper 26 bits of a number below 2^996, and the remaining bits.
constexpr DoubleDouble halves(double a) {
  const double scaled = a * 0x1.0000002p27;
  const double high = scaled - (scaled - a);
  return {high, a - high};
}

/// a b exactly, barring overflow and underflow.
constexpr DoubleDouble two_product(double a, double b) {
  const double product = a * b;
  const DoubleDouble x = halves(a), y = halves(b);
  return {product, ((x.high * y.high - product) + x.high * y.low + x.low * y.high) + x.low * y.low};
}

constexpr DoubleDouble operator-(DoubleDouble a) { return {-a.high, -a.low}; }

constexpr DoubleDouble operator+(DoubleDouble a, DoubleDouble b) {
  const DoubleDouble sum = two_sum(a.high, b.high);
  return fast_two_sum(sum.high, sum.low + (a.low + b.low));
}

constexpr DoubleDouble operator*(DoubleDouble a, DoubleDouble b) {
  const DoubleDouble product = two_product(a.high, b.high);
  return fast_two_sum(product.high, product.low + (a.high * b.low + a.low * b.high));
}

constexpr DoubleDouble operator/(DoubleDouble a, DoubleDouble b) {
  const double first = a.high / b.high;
  const DoubleDouble rest = a + -(b * DoubleDouble{first, 0});
  return fast_two_sum(first, rest.high / b.high);
}

}  // namespace lowrank
