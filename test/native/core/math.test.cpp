// Elementary functions next to exact values, and their bits, which must be the same on every system.
#include "core/math.h"

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "check.h"
#include "core/double_double.h"
#include "core/math_values.h"
#include "core/random.h"

using namespace lowrank;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kLeast = std::numeric_limits<double>::denorm_min();

double sine(double x) { return math::sin_cos(x).sine; }
double cosine_of_both(double x) { return math::sin_cos(x).cosine; }

/// Difference to the exact value in units of the last place of the nearest double.
double error_of(double actual, const MathValue& exact) {
  if (actual == exact.value) return std::fabs(exact.rest);
  const int exponent = std::ilogb(exact.value == 0 ? kLeast : exact.value);
  return std::fabs((actual - exact.value) / std::ldexp(1.0, std::max(exponent, -1022) - 52) - exact.rest);
}

template <class Values, class Function>
double largest_error(const Values& values, Function function) {
  double most = 0;
  for (const MathValue& each : values) {
    const double error = error_of(function(each.x, each.y), each);
    if (!(error <= 0.52))
      test::report(__FILE__, __LINE__,
                   "an error of " + test::show(error) + " at " + test::show(each.x) + ", " + test::show(each.y));
    most = std::fmax(most, error);
  }
  return most;
}

/// Function of one argument: the second is ignored.
template <class Function>
auto of_one(Function function) {
  return [=](double x, double) { return function(x); };
}

/// A number of any size, of either sign.
double any(uint64_t index) {
  double x;
  do x = std::bit_cast<double>(mix(index++ * 2654435761u + 7));
  while (!std::isfinite(x));
  return x;
}
double between(uint64_t index, double low, double high) { return low + (high - low) * draw(11, index); }

/// Hash of the bits of function(index) for 20,000 indices.
template <class Function>
uint64_t bits_of(Function function) {
  uint64_t hash = 0;
  for (uint64_t index = 0; index < 20000; ++index) {
    const double value = function(index);
    hash = mix(hash ^ (value != value ? 1 : std::bit_cast<uint64_t>(value)));
  }
  return hash;
}

bool is_negative_zero(double x) { return x == 0 && std::signbit(x); }

}  // namespace

TEST("elementary functions are within 0.52 units in the last place of exact values") {
  CHECK_LE(largest_error(kExpValues, of_one(math::exp)), 0.52);
  CHECK_LE(largest_error(kExpm1Values, of_one(math::expm1)), 0.52);
  CHECK_LE(largest_error(kLogValues, of_one(math::log)), 0.52);
  CHECK_LE(largest_error(kPowValues, math::pow), 0.52);
  CHECK_LE(largest_error(kSinValues, of_one(sine)), 0.52);
  CHECK_LE(largest_error(kCosValues, of_one(math::cos)), 0.52);
  CHECK_LE(largest_error(kCosValues, of_one(cosine_of_both)), 0.52);
}

TEST("elementary functions have the special values of C") {
  CHECK_EQ(math::exp(0), 1.0);
  CHECK_EQ(math::exp(kInfinity), kInfinity);
  CHECK_EQ(math::exp(-kInfinity), 0.0);
  CHECK_EQ(math::exp(1e308), kInfinity);
  CHECK_EQ(math::exp(-1e308), 0.0);
  CHECK_EQ(math::exp(-745.1332191019411), kLeast);
  CHECK_EQ(math::exp(-745.1332191019412), 0.0);
  CHECK(std::isnan(math::exp(kNaN)));

  CHECK_EQ(math::expm1(kInfinity), kInfinity);
  CHECK_EQ(math::expm1(-kInfinity), -1.0);
  CHECK_EQ(math::expm1(-1e308), -1.0);
  CHECK_EQ(math::expm1(1e308), kInfinity);
  CHECK_EQ(math::expm1(-kLeast), -kLeast);
  CHECK(is_negative_zero(math::expm1(-0.0)));
  CHECK(std::isnan(math::expm1(kNaN)));

  CHECK_EQ(math::log(1), 0.0);
  CHECK_EQ(math::log(0.0), -kInfinity);
  CHECK_EQ(math::log(-0.0), -kInfinity);
  CHECK_EQ(math::log(kInfinity), kInfinity);
  CHECK(std::isnan(math::log(-1)));
  CHECK(std::isnan(math::log(-kInfinity)));
  CHECK(std::isnan(math::log(kNaN)));

  for (const double x : {0.0, kInfinity, -kInfinity, kNaN, -1.5}) CHECK_EQ(math::pow(x, 0), 1.0);
  for (const double y : {kInfinity, kNaN, 1e300, -0.5}) CHECK_EQ(math::pow(1, y), 1.0);
  CHECK(std::isnan(math::pow(kNaN, 2)));
  CHECK(std::isnan(math::pow(2, kNaN)));
  CHECK(std::isnan(math::pow(-2, 0.5)));
  CHECK_EQ(math::pow(-1, kInfinity), 1.0);
  CHECK_EQ(math::pow(-1, -kInfinity), 1.0);
  CHECK_EQ(math::pow(0.5, kInfinity), 0.0);
  CHECK_EQ(math::pow(0.5, -kInfinity), kInfinity);
  CHECK_EQ(math::pow(2, kInfinity), kInfinity);
  CHECK_EQ(math::pow(2, -kInfinity), 0.0);
  CHECK_EQ(math::pow(kInfinity, 0.5), kInfinity);
  CHECK_EQ(math::pow(kInfinity, -0.5), 0.0);
  CHECK_EQ(math::pow(-kInfinity, 3), -kInfinity);
  CHECK_EQ(math::pow(-kInfinity, 2), kInfinity);
  CHECK(is_negative_zero(math::pow(-kInfinity, -3)));
  CHECK(is_negative_zero(math::pow(-0.0, 3)));
  CHECK(!is_negative_zero(math::pow(-0.0, 2)));
  CHECK_EQ(math::pow(-0.0, -3), -kInfinity);
  CHECK_EQ(math::pow(0, -0.5), kInfinity);
  CHECK_EQ(math::pow(-2, 3), -8.0);
  CHECK_EQ(math::pow(-2, -1074), kLeast);
  CHECK_EQ(math::pow(-2, 9007199254740993.0), kInfinity);
  CHECK_EQ(math::pow(10, 22), 1e22);
  CHECK_EQ(math::pow(2, 1023), 0x1p1023);
  CHECK_EQ(math::pow(2, 1024), kInfinity);
  CHECK_EQ(math::pow(1 + 0x1p-52, 1e300), kInfinity);
  CHECK_EQ(math::pow(1 - 0x1p-53, 1e300), 0.0);
  CHECK_EQ(math::pow(3, 1e-300), 1.0);

  CHECK_EQ(math::cos(0), 1.0);
  CHECK(is_negative_zero(sine(-0.0)));
  CHECK_EQ(sine(-kLeast), -kLeast);
  for (const double x : {kInfinity, -kInfinity, kNaN}) {
    CHECK(std::isnan(math::cos(x)));
    CHECK(std::isnan(sine(x)));
    CHECK(std::isnan(cosine_of_both(x)));
  }
}

TEST("powers of two and their logarithms in fp32 are exact, and others the nearest") {
  for (int n = -149; n < 128; ++n) {
    CHECK_EQ(math::exp2(static_cast<float>(n)), std::ldexp(1.0f, n));
    CHECK_EQ(math::log2(std::ldexp(1.0f, n)), static_cast<float>(n));
  }
  CHECK_EQ(math::exp2(-std::numeric_limits<float>::infinity()), 0.0f);
  CHECK_EQ(math::exp2(128.0f), std::numeric_limits<float>::infinity());
  CHECK_EQ(math::log2(0.0f), -std::numeric_limits<float>::infinity());
  CHECK_EQ(math::exp2(0.5f), 1.41421356f);
  CHECK_EQ(math::log2(10.0f), 3.32192809f);
}

TEST("a sum and a product of two doubles lose nothing") {
  const DoubleDouble sum = two_sum(1, 0x1p-80), product = two_product(1 + 0x1p-30, 1 + 0x1p-40);
  CHECK_EQ(sum.high, 1.0);
  CHECK_EQ(sum.low, 0x1p-80);
  CHECK_EQ(product.high, 1 + 0x1p-30 + 0x1p-40);
  CHECK_EQ(product.low, 0x1p-70);
}

// The hashes were computed on Linux for x64 by GCC 12. Other bits on another system mean that runs there differ.
TEST("elementary functions have the same bits on every system") {
  CHECK_EQ(bits_of([](uint64_t i) { return math::exp(between(i, -750, 712)); }), 0x8d15e174f1f75b08u);
  CHECK_EQ(bits_of([](uint64_t i) { return math::expm1(between(i, -3, 3)); }), 0x6899bc7e5153e5d6u);
  CHECK_EQ(bits_of([](uint64_t i) { return math::log(std::fabs(any(i))); }), 0xdf8453a3233caccbu);
  CHECK_EQ(bits_of([](uint64_t i) { return math::log(between(i, 0.9, 1.1)); }), 0xb2fe6035bd236463u);
  CHECK_EQ(bits_of([](uint64_t i) { return math::pow(between(i, 0.5, 2), between(mix(i), -900, 900)); }),
           0x46c842dd2e04fb4cu);
  CHECK_EQ(bits_of([](uint64_t i) { return math::pow(any(i), between(i, -2, 2)); }), 0x40a6f5c5bb18e0fau);
  CHECK_EQ(bits_of([](uint64_t i) { return sine(between(i, -100, 100)); }), 0x9eb3ee87d39c6178u);
  CHECK_EQ(bits_of([](uint64_t i) { return math::cos(any(i)); }), 0xff4a1669cc7fd3f4u);
  CHECK_EQ(bits_of([](uint64_t i) { return math::exp2(static_cast<float>(between(i, -150, 129))); }),
           0x23cfc099b127887bu);
  CHECK_EQ(bits_of([](uint64_t i) { return math::log2(static_cast<float>(between(i, 0, 4))); }), 0x0d8bf4ceb244e7a4u);
}
