// Each function takes its argument to the nearest entry of a table, and goes on with a few terms of its Taylor series,
// which are small next to the entry, as are their rounding errors. The compiler computes the tables.
#include "core/math.h"

#include <array>
#include <bit>
#include <limits>

#include "core/double_double.h"

namespace lowrank::math {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr DoubleDouble kLn2{0x1.62e42fefa39efp-1, 0x1.abc9e3b39803fp-56};
constexpr DoubleDouble kHalfPi{0x1.921fb54442d18p+0, 0x1.1a62633145c07p-54};

constexpr uint64_t bits_of(double x) { return std::bit_cast<uint64_t>(x); }
constexpr double from_bits(uint64_t bits) { return std::bit_cast<double>(bits); }
constexpr double magnitude(double x) { return from_bits(bits_of(x) & ~(uint64_t{1} << 63)); }
/// x, or -x where `negative` is 1 and not 0.
constexpr double with_sign(double x, uint64_t negative) { return from_bits(bits_of(x) ^ negative << 63); }
/// 2^n for n from -1022 to 1023.
constexpr double power_of_two(int64_t n) { return from_bits(static_cast<uint64_t>(n + 1023) << 52); }
/// Rounds to a multiple of 2^-(52 - n) by adding 1.5 2^n, which must be far larger.
constexpr double rounded(double x, double one_and_a_half) { return (x + one_and_a_half) - one_and_a_half; }

// ---- exponentials

constexpr int kPowerBits = 8, kPowers = 1 << kPowerBits;

/// 2^(index / kPowers) is value (1 + rest).
struct Power {
  double value, rest;
};

constexpr std::array<Power, kPowers> kPowerTable = [] {
  std::array<Power, kPowers> table;
  for (int index = 0; index < kPowers; ++index) {
    const DoubleDouble x = kLn2 * DoubleDouble{static_cast<double>(index) / kPowers, 0};
    DoubleDouble sum{1, 0};
    for (int n = 28; n > 0; --n) sum = DoubleDouble{1, 0} + x * sum / DoubleDouble{static_cast<double>(n), 0};
    table[index] = {sum.high, sum.low / sum.high};
  }
  return table;
}();

/// e^(x + low) is 2^power value (1 + rest), with `value` in [1, 2) and `rest` below 0.0014. |x| is 746 at most and
/// `low` far below it.
struct Exponential {
  int64_t power;
  double value, rest;
};

Exponential exponential(double x, double low) {
  constexpr double kShift = 0x1.8p52;
  // The upper part has so few bits that its products with whole numbers are exact.
  constexpr double kHigh = rounded(kLn2.high / kPowers, 0x1.8p10);
  constexpr double kLow = (kLn2.high / kPowers - kHigh) + kLn2.low / kPowers;
  const double shifted = x * (kPowers / kLn2.high) + kShift;
  const auto steps = static_cast<int64_t>(bits_of(shifted) - bits_of(kShift));
  const double count = shifted - kShift;
  const double r = (x - count * kHigh) - (count * kLow - low);
  const Power& power = kPowerTable[steps & (kPowers - 1)];
  const double series = r + r * r * ((0.5 + r * (1.0 / 6)) + r * r * (1.0 / 24 + r * (1.0 / 120)));
  return {steps >> kPowerBits, power.value, power.rest + series};
}

double value_of(const Exponential& e) {
  if (e.power > -1022 && e.power < 1023) {
    const double value = e.value * power_of_two(e.power);
    return value + value * e.rest;
  }
  if (e.power > 0) return (e.value + e.value * e.rest) * 0x1p1000 * power_of_two(e.power - 1000);
  // Results below 2^-1022 have fewer bits and must be rounded once: times 2^1022, next to a 1 that has their last
  // place.
  const double value = e.value * power_of_two(e.power + 1022);
  const DoubleDouble scaled = fast_two_sum(value, value * e.rest);
  if (scaled.high >= 1) return scaled.high * 0x1p-1022;
  const DoubleDouble next_to_one = fast_two_sum(1, scaled.high);
  return ((next_to_one.high + (next_to_one.low + scaled.low)) - 1) * 0x1p-1022;
}

/// e^(x + low) for any x that is not NaN.
double exp_of_sum(double x, double low) {
  if (x >= 710) return kInfinity;
  if (x <= -746) return 0;
  return value_of(exponential(x, low));
}

// ---- logarithms

/// Where the mantissas that logarithms are taken of begin: they reach from 0.6875 to 1.375.
constexpr uint64_t kLowest = bits_of(0.6875);
constexpr int kLogBits = 7, kLogs = 1 << kLogBits;
/// ln 2 and logarithms in the table are sums of a multiple of 2^-42, whose sums are exact, and a rest.
constexpr double kLogGrid = 0x1.8p10;
constexpr double kLn2High = rounded(kLn2.high, kLogGrid), kLn2Low = (kLn2.high - kLn2High) + kLn2.low;

/// A number of ten bits near the inverse of all mantissas of an interval, and the negative of its logarithm.
struct Inverse {
  double value, high, low;
};

constexpr std::array<Inverse, kLogs> kInverseTable = [] {
  std::array<Inverse, kLogs> table;
  for (uint64_t index = 0; index < kLogs; ++index) {
    const auto border = [](uint64_t at) { return from_bits(kLowest + (at << (52 - kLogBits))); };
    const double begin = border(index), end = border(index + 1);
    // Relative to 1 itself, so that small logarithms are not differences of large numbers.
    const bool one = begin == 1 || end == 1;
    const double value = one ? 1.0 : static_cast<int>(1024 / (begin + end) + 0.5) / 512.0;
    // log v = 2 artanh((v - 1) / (v + 1))
    const DoubleDouble t = DoubleDouble{value - 1, 0} / DoubleDouble{value + 1, 0}, square = t * t;
    DoubleDouble sum{0, 0};
    for (int n = 47; n > 0; n -= 2) sum = sum * square + DoubleDouble{1, 0} / DoubleDouble{static_cast<double>(n), 0};
    const DoubleDouble log = -(sum * t * DoubleDouble{2, 0});
    const double high = rounded(log.high, kLogGrid);
    table[index] = {value, high, (log.high - high) + log.low};
  }
  return table;
}();

/// x = 2^power mantissa, for positive and finite x, and the entry for that mantissa.
struct Mantissa {
  double power, value;
  const Inverse& inverse;
};

Mantissa mantissa_of(double x) {
  const bool subnormal = x < 0x1p-1022;
  const uint64_t bits = bits_of(subnormal ? x * 0x1p52 : x), above = bits - kLowest;
  const int64_t power = static_cast<int64_t>(above) >> 52;
  return {static_cast<double>(subnormal ? power - 52 : power), from_bits(bits - (above & uint64_t{0xfff} << 52)),
          kInverseTable[above >> (52 - kLogBits) & (kLogs - 1)]};
}

/// log x to about 2^-68 of itself, for positive and finite x.
DoubleDouble log_of(double x) {
  const auto& [whole, mantissa, inverse] = mantissa_of(x);
  // x = 2^whole (1 + r) / inverse, where r is high + low without an error, and so are sums of `high` and the square of
  // it. Rounded and not cut off, so that the two parts do not cancel.
  const double upper = from_bits((bits_of(mantissa) + (uint64_t{1} << 29)) & ~((uint64_t{1} << 30) - 1));
  const double high = upper * inverse.value - 1, low = (mantissa - upper) * inverse.value, r = high + low;
  const DoubleDouble linear = two_sum(whole * kLn2High + inverse.high + high, low);
  const DoubleDouble sum = two_sum(linear.high, -0.5 * high * high);
  double series = 1.0 / 11;
  for (const double term : {-1.0 / 10, 1.0 / 9, -1.0 / 8, 1.0 / 7, -1.0 / 6, 1.0 / 5, -1.0 / 4, 1.0 / 3})
    series = series * r + term;
  const double rest = (whole * kLn2Low + inverse.low) - 0.5 * low * (high + r) + r * r * r * series;
  return fast_two_sum(sum.high, linear.low + sum.low + rest);
}

// ---- angles

/// The bits of 2 / pi behind the point, after 64 zeros.
constexpr uint64_t kTwoOverPi[] = {
    0,
    0xa2f9836e4e441529,
    0xfc2757d1f534ddc0,
    0xdb6295993c439041,
    0xfe5163abdebbc561,
    0xb7246e3a424dd2e0,
    0x06492eea09d1921c,
    0xfe1deb1cb129a73e,
    0xe88235f52ebb4484,
    0xe99c7026b45f7e41,
    0x3991d639835339f4,
    0x9c845f8bbdf9283b,
    0x1ff897ffde05980f,
    0xef2f118b5a0a6d1f,
    0x6d367ecf27cb09b7,
    0x4f463f669e5fea2d,
    0x7527bac7ebe5f17b,
    0x3d0739f78a5292ea,
    0x6bfb5fb11f8d5d08,
    0x56033046fc7b6bab,
};

/// An angle as a number of quarter turns and a rest of an eighth at most to either side.
struct Turned {
  uint64_t quarters;
  DoubleDouble rest;
};

/// Quarter turns in a positive and finite angle, and the rest of it.
Turned turned(double x) {
  if (x <= kHalfPi.high / 2) return {0, {x, 0}};
  __extension__ using Wide = unsigned __int128;
  // x = whole * 2^power. Of its product with 2 / pi, only the bits from 2 downward count, since larger ones are full
  // turns; 192 bits of the factor give 137 of them.
  const uint64_t whole = (bits_of(x) & ((uint64_t{1} << 52) - 1)) | uint64_t{1} << 52;
  const int power = static_cast<int>(bits_of(x) >> 52) - 1075;
  const int begin = power - 2 + 64, word = begin / 64, shift = begin % 64;
  const auto factor = [&](int i) {
    const uint64_t* const at = kTwoOverPi + word + i;
    return at[0] << shift | at[1] >> 1 >> (63 - shift);
  };
  const Wide low = Wide{whole} * factor(2);
  const Wide high = ((Wide{whole * factor(0)} << 64) + Wide{whole} * factor(1)) + (low >> 64);
  // In quarter turns: two bits before the point. A rest of a half or more is counted back from the next quarter.
  Wide fraction = high << 2 | static_cast<uint64_t>(low) >> 62;
  const auto back = static_cast<uint64_t>(fraction >> 127);
  const uint64_t quarters = static_cast<uint64_t>(high >> 126) + back;
  fraction = (fraction ^ -Wide{back}) + back;
  const int zeros = std::countl_zero(static_cast<uint64_t>(fraction >> 64));
  fraction <<= zeros;
  const double scale = with_sign(power_of_two(-zeros), back);
  const DoubleDouble part = fast_two_sum(static_cast<double>(static_cast<uint64_t>(fraction >> 75)) * 0x1p-53 * scale,
                                         static_cast<double>(static_cast<uint64_t>(fraction >> 11)) * 0x1p-117 * scale);
  return {quarters, part * kHalfPi};
}

constexpr int kAngleSteps = 64;  // to a radian
struct TableAngle {
  DoubleDouble of[2];  // sine, cosine
};

/// Angles up to an eighth of a turn.
constexpr std::array<TableAngle, 51> kAngleTable = [] {
  std::array<TableAngle, 51> table;
  for (int index = 0; index < static_cast<int>(table.size()); ++index) {
    const DoubleDouble x{static_cast<double>(index) / kAngleSteps, 0}, square = -(x * x), one{1, 0};
    DoubleDouble sine = one, cosine = one;
    for (int n = 13; n > 0; --n) {
      cosine = one + cosine * square / DoubleDouble{static_cast<double>((2 * n - 1) * 2 * n), 0};
      sine = one + sine * square / DoubleDouble{static_cast<double>(2 * n * (2 * n + 1)), 0};
    }
    table[index] = {{sine * x, cosine}};
  }
  return table;
}();

/// Sine of a rest and a number of quarter turns. Signs are set without branches, which no processor could predict.
double sine(const DoubleDouble& rest, uint64_t quarters) {
  const uint64_t negative = bits_of(rest.high) >> 63, odd = quarters & 1;
  const double high = magnitude(rest.high), low = with_sign(rest.low, negative);
  const int index = static_cast<int>(high * kAngleSteps + 0.5);
  const TableAngle& near = kAngleTable[index];
  const double d = high - static_cast<double>(index) / kAngleSteps, square = d * d;
  // sin d - d and cos d - 1
  const double of_sine = d * square * (-1.0 / 6 + square * (1.0 / 120 + square * (-1.0 / 5040)));
  const double of_cosine = square * (-0.5 + square * (1.0 / 24 + square * (-1.0 / 720)));
  const DoubleDouble base = near.of[odd], other = near.of[1 - odd];
  const DoubleDouble slope{with_sign(other.high, odd), with_sign(other.low, odd)};
  const DoubleDouble product = two_product(slope.high, d), sum = two_sum(base.high, product.high);
  const double more =
      product.low + base.low + (slope.low * d + slope.high * low) + slope.high * of_sine + base.high * of_cosine;
  return with_sign(sum.high + (sum.low + more), (quarters >> 1 & 1) ^ (negative & ~odd));
}

}  // namespace

double exp(double x) { return x != x ? x : exp_of_sum(x, 0); }

double expm1(double x) {
  const double size = magnitude(x);
  if (size < 0x1p-54) return x;
  if (size < 0.1875) {
    const DoubleDouble square = two_product(x, x), sum = fast_two_sum(x, 0.5 * square.high);
    double series = 1.0 / 6227020800;  // 13!
    for (const double factorial :
         {479001600.0, 39916800.0, 3628800.0, 362880.0, 40320.0, 5040.0, 720.0, 120.0, 24.0, 6.0})
      series = series * x + 1 / factorial;
    return sum.high + (sum.low + (0.5 * square.low + x * square.high * series));
  }
  if (x < -45) return -1;
  if (!(x < 45)) return exp(x);
  const Exponential e = exponential(x, 0);
  const double value = e.value * power_of_two(e.power);
  const DoubleDouble sum = two_sum(value, -1);
  return sum.high + (sum.low + value * e.rest);
}

double log(double x) {
  if (!(x > 0)) return x == 0 ? -kInfinity : kNaN;
  return x == kInfinity ? x : log_of(x).high;
}

double pow(double x, double y) {
  if (y == 0 || x == 1) return 1;
  if (x != x || y != y) return kNaN;
  const double size = magnitude(x), height = magnitude(y);
  const bool whole = height >= 0x1p52 || rounded(height, 0x1p52) == height;
  const bool odd = whole && height < 0x1p53 && (static_cast<int64_t>(height) & 1) != 0;
  const uint64_t negative = odd ? bits_of(x) >> 63 : 0;
  if (size == 0 || size == kInfinity) return with_sign((size == 0) == (y > 0) ? 0 : kInfinity, negative);
  if (x < 0 && !whole) return kNaN;
  if (size == 1) return with_sign(1, negative);
  // The result overflows, underflows, or is 1; the rest may multiply by the logarithm without leaving the doubles.
  if (height >= 0x1p64) return with_sign((size > 1) == (y > 0) ? kInfinity : 0, negative);
  if (height < 0x1p-64) return 1;
  const DoubleDouble log = log_of(size), product = two_product(y, log.high);
  return with_sign(exp_of_sum(product.high, product.low + y * log.low), negative);
}

double cos(double x) {
  const double size = magnitude(x);
  if (!(size < kInfinity)) return kNaN;
  const Turned angle = turned(size);
  return sine(angle.rest, angle.quarters + 1);
}

SineCosine sin_cos(double x) {
  const double size = magnitude(x);
  if (!(size < kInfinity)) return {kNaN, kNaN};
  const Turned angle = turned(size);
  return {with_sign(sine(angle.rest, angle.quarters), bits_of(x) >> 63), sine(angle.rest, angle.quarters + 1)};
}

float exp2(float x) { return static_cast<float>(exp(double{x} * kLn2.high)); }

float log2(float x) {
  if (!(x > 0 && x <= std::numeric_limits<float>::max())) return static_cast<float>(log(x));
  const auto& [whole, mantissa, inverse] = mantissa_of(x);
  const double r = mantissa * inverse.value - 1;
  const double series = r * (1 + r * (-1.0 / 2 + r * (1.0 / 3 + r * (-1.0 / 4 + r * (1.0 / 5)))));
  return static_cast<float>(whole + (inverse.high + inverse.low + series) * (1 / kLn2.high));
}

}  // namespace lowrank::math
