// Numbers of PTX beyond those of C++: 16-bit floating point, roundings, and sums rounded once.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace lowrank::test::ptx {

enum class Rounding : uint8_t { nearest, zero, down, up };

/// a * b + c rounded to odd: rounding it again to a type with two bits less gives what one rounding would.
inline double odd_fma(double a, double b, double c) {
  const double product = a * b;  // exact for factors of at most 26 bits
  const double sum = product + c;
  if (!std::isfinite(sum)) return sum;
  const double part = sum - product;
  const double rest = (product - (sum - part)) + (c - part);
  if (rest == 0 || (std::bit_cast<uint64_t>(sum) & 1) != 0) return sum;
  return std::nextafter(sum, rest > 0 ? HUGE_VAL : -HUGE_VAL);
}

/// `value` to a binary format of `exponent` and `mantissa` bits. Too large numbers become infinite, or, rounded towards
/// zero, the largest number.
inline uint32_t encode(double value, int exponent, int mantissa, Rounding rounding) {
  const uint32_t sign = (std::signbit(value) ? 1u : 0u) << (exponent + mantissa);
  const uint32_t infinite = ((1u << exponent) - 1) << mantissa;
  if (std::isnan(value)) return infinite | (infinite >> exponent) | ((1u << mantissa) - 1);
  const double size = std::fabs(value);
  if (std::isinf(value)) return sign | infinite;
  if (size == 0) return sign;
  const int bias = (1 << (exponent - 1)) - 1;
  const int power = std::max(std::ilogb(size), 1 - bias);
  const double scaled = std::ldexp(size, mantissa - power);  // in units of the last place; exact
  double whole = std::floor(scaled);
  const double rest = scaled - whole;
  const bool away = rounding == Rounding::down ? std::signbit(value) : rounding == Rounding::up && !std::signbit(value);
  if (rounding == Rounding::nearest ? rest > 0.5 || (rest == 0.5 && std::fmod(whole, 2) != 0) : away && rest > 0)
    whole += 1;
  // A mantissa that overflows carries into the exponent.
  const auto units = static_cast<uint64_t>(whole);
  const uint64_t bits = units + (static_cast<uint64_t>(power + bias - 1) << mantissa);
  if (bits < infinite) return sign | static_cast<uint32_t>(bits);
  const bool stays = rounding != Rounding::nearest && !away;
  return sign | (stays ? infinite - 1 : infinite);
}

inline float to_f32(double value, Rounding rounding) {
  if (rounding == Rounding::nearest) return static_cast<float>(value);
  return std::bit_cast<float>(encode(value, 8, 23, rounding));
}

struct Half {
  uint16_t bits;
  operator double() const {
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    double value = exponent == 31 ? (mantissa ? std::numeric_limits<double>::quiet_NaN() : HUGE_VAL)
                   : exponent     ? std::ldexp(mantissa + 1024, exponent - 25)
                                  : std::ldexp(mantissa, -24);
    return bits >> 15 ? -value : value;
  }
  static Half of(double value, Rounding rounding = Rounding::nearest) {
    return {static_cast<uint16_t>(std::isnan(value) ? 0x7fff : encode(value, 5, 10, rounding))};
  }
};

struct Bfloat16 {
  uint16_t bits;
  operator double() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
  static Bfloat16 of(double value, Rounding rounding = Rounding::nearest) {
    return {static_cast<uint16_t>(std::isnan(value) ? 0x7fff : encode(value, 8, 7, rounding))};
  }
};

inline float flush(float value) { return std::fabs(value) < 0x1p-126f ? std::copysign(0.0f, value) : value; }

}  // namespace lowrank::test::ptx
