// Integer size arithmetic, and elementary functions. Those of C libraries differ in the last bits between libraries,
// and in some with the CPU; these give the same bits wherever additions and products round to nearest.
#pragma once

#include <cstdint>

namespace lowrank {

/// Number of units needed to hold `value`.
constexpr int64_t ceil_div(int64_t value, int64_t unit) { return (value + unit - 1) / unit; }
/// The next multiple of `unit`.
constexpr int64_t round_up(int64_t value, int64_t unit) { return ceil_div(value, unit) * unit; }

/// Accurate to 0.52 units in the last place, with the special values of C (Annex F).
namespace math {

double exp(double x);
/// e^x - 1.
double expm1(double x);
double log(double x);
double pow(double x, double y);

/// Cosine, and sine with cosine, of any angle in radians.
double cos(double x);
struct SineCosine {
  double sine, cosine;
};
SineCosine sin_cos(double x);

/// 2^x and its inverse in fp32, exact if the result is a power of two or an integer.
float exp2(float x);
float log2(float x);

}  // namespace math

}  // namespace lowrank
