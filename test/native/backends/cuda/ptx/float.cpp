// Floating point. Results are rounded once; approximations are the rounded true value, which a card's differ from in
// the last places.
#include <cstring>

#include "backends/cuda/ptx/decode.h"

namespace lowrank::test::ptx {
namespace {

constexpr uint8_t kFlush = 1, kSaturate = 2;  // in an instruction's variant; its rounding is in widths[15]

float finish(double value, const Instruction& i) {
  float found = to_f32(value, static_cast<Rounding>(i.widths[15]));
  if (i.variant & kFlush) found = flush(found);
  if (i.variant & kSaturate) found = found > 0 ? std::fmin(found, 1.0f) : 0.0f;  // a NaN becomes 0
  return found;
}

float operand(float value, const Instruction& i) { return i.variant & kFlush ? flush(value) : value; }

/// fp32 with any modifiers: body gives the result in double, exact or rounded to odd.
template <class Body>
Handler general_f32(int count, Body) {
  if (count == 1) {
    return [](Block&, Warp& w, const Instruction& i, uint32_t lanes) {
      float* d = w.at<float>(i.slots[0]);
      const float* a = w.at<float>(i.slots[1]);
      each(lanes, [=, &i](int l) { d[l] = finish(Body{}(operand(a[l], i), 0.0f, 0.0f), i); });
    };
  }
  if (count == 2) {
    return [](Block&, Warp& w, const Instruction& i, uint32_t lanes) {
      float* d = w.at<float>(i.slots[0]);
      const float *a = w.at<float>(i.slots[1]), *b = w.at<float>(i.slots[2]);
      each(lanes, [=, &i](int l) { d[l] = finish(Body{}(operand(a[l], i), operand(b[l], i), 0.0f), i); });
    };
  }
  return [](Block&, Warp& w, const Instruction& i, uint32_t lanes) {
    float* d = w.at<float>(i.slots[0]);
    const float *a = w.at<float>(i.slots[1]), *b = w.at<float>(i.slots[2]), *c = w.at<float>(i.slots[3]);
    each(lanes, [=, &i](int l) { d[l] = finish(Body{}(operand(a[l], i), operand(b[l], i), operand(c[l], i)), i); });
  };
}

void take_f32_modifiers(Decoder& d) {
  const Rounding rounding = d.take_rounding();
  d.out.widths[15] = static_cast<uint8_t>(rounding);
  d.out.variant = static_cast<uint8_t>((d.take("ftz") ? kFlush : 0) | (d.take("sat") ? kSaturate : 0));
}

/// 16-bit types, one or two to a register.
template <class T, class Body>
Handler small(int count, int each_register, Body) {
  const auto make = [&]<int n, int per>() -> Handler {
    return [](Block&, Warp& w, const Instruction& i, uint32_t lanes) {
      T* d = w.at<T>(i.slots[0]);
      const T* a[3] = {};
      for (size_t k = 0; k < n; ++k) a[k] = w.at<T>(i.slots[k + 1]);
      each(lanes, [&](int l) {
        for (int k = per * l; k < per * (l + 1); ++k) {
          d[k] = T::of(Body{}(static_cast<double>(a[0][k]), n > 1 ? static_cast<double>(a[1][k]) : 0,
                              n > 2 ? static_cast<double>(a[2][k]) : 0));
        }
      });
    };
  };
  if (each_register == 1) {
    return count == 1   ? make.template operator()<1, 1>()
           : count == 2 ? make.template operator()<2, 1>()
                        : make.template operator()<3, 1>();
  }
  return count == 1   ? make.template operator()<1, 2>()
         : count == 2 ? make.template operator()<2, 2>()
                      : make.template operator()<3, 2>();
}

/// A body of doubles for every floating-point type that has the instruction; false for other types.
template <class Body>
bool arithmetic(Decoder& d, const std::string& type, int count, Body body) {
  const auto exact = [] { return [](double a, double b, double c) { return Body{}(a, b, c); }; };
  if (type == "f32") {
    take_f32_modifiers(d);
    d.registers(count, 4);
    d.out.run = general_f32(count, body);
    return true;
  }
  if (type == "f64") {
    if (d.take_rounding() != Rounding::nearest) d.fail("unsupported rounding");
    d.registers(count, 8);
    return false;  // the caller's: the body is exact for shorter types only
  }
  if (type == "f16" || type == "f16x2" || type == "bf16" || type == "bf16x2") {
    if (d.take_rounding() != Rounding::nearest) d.fail("unsupported rounding");
    const int per = type.ends_with("x2") ? 2 : 1;
    d.registers(count, 2 * per);
    d.out.run = type.starts_with('f') ? small<Half>(count, per, exact()) : small<Bfloat16>(count, per, exact());
    return true;
  }
  d.fail("unsupported type ." + type);
}

bool is_float(const std::string& type) { return type.starts_with('f') || type.starts_with("bf"); }

/// Puts the type back for the decoder of integers.
template <auto Float>
void by_type(Decoder& d, const char* integer) {
  const std::string type = d.take_type();
  if (is_float(type)) return Float(d, type);
  static OpcodeTable integers = [] {
    OpcodeTable made;
    add_integer_opcodes(made);
    return made;
  }();
  d.put_back(type);
  integers.at(integer)(d);
}

/// fp32 rounded to nearest and nothing else, which the processor does itself.
bool is_plain(const Decoder& d, const std::string& type) {
  return type == "f32" && d.out.variant == 0 && d.out.widths[15] == 0;
}

void add(Decoder& d, const std::string& type) {
  const auto body = [](double a, double b, double) { return odd_fma(a, 1, b); };
  if (arithmetic(d, type, 2, body)) {
    if (is_plain(d, type)) d.out.run = binary<float>([](float a, float b) { return a + b; });
  } else {
    d.out.run = binary<double>([](double a, double b) { return a + b; });
  }
}

void sub(Decoder& d, const std::string& type) {
  const auto body = [](double a, double b, double) { return odd_fma(a, 1, -b); };
  if (arithmetic(d, type, 2, body)) {
    if (is_plain(d, type)) d.out.run = binary<float>([](float a, float b) { return a - b; });
  } else {
    d.out.run = binary<double>([](double a, double b) { return a - b; });
  }
}

void mul(Decoder& d, const std::string& type) {
  const auto body = [](double a, double b, double) { return a * b; };
  if (arithmetic(d, type, 2, body)) {
    if (is_plain(d, type)) d.out.run = binary<float>([](float a, float b) { return a * b; });
  } else {
    d.out.run = binary<double>([](double a, double b) { return a * b; });
  }
}

void fma(Decoder& d) {
  if (d.take("relu")) d.fail("unsupported modifier");
  const std::string type = d.take_type();
  const auto body = [](double a, double b, double c) { return odd_fma(a, b, c); };
  if (arithmetic(d, type, 3, body)) {
    if (is_plain(d, type)) {
      d.out.run = ternary<float>([](float a, float b, float c) { return std::fma(a, b, c); });
    }
  } else {
    d.out.run = ternary<double>([](double a, double b, double c) { return std::fma(a, b, c); });
  }
}

/// The number where the other is a NaN, unless .NaN asks for the NaN; -0 is less than 0.
template <bool largest, bool keeps_nan>
double extreme_of(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) {
    if (keeps_nan || (std::isnan(a) && std::isnan(b))) return std::numeric_limits<double>::quiet_NaN();
    return std::isnan(a) ? b : a;
  }
  if (a == b) return std::signbit(a) == largest ? b : a;
  return (a < b) == largest ? b : a;
}

template <bool largest>
void extreme(Decoder& d, const std::string& type) {
  if (d.take("xorsign") || d.take("abs")) d.fail("unsupported modifier");
  const bool keeps_nan = d.take("NaN");
  const auto with = [&](auto body) {
    if (!arithmetic(d, type, 2, body))
      d.out.run = binary<double>([](double a, double b) { return decltype(body){}(a, b, 0); });
  };
  if (keeps_nan) {
    with([](double a, double b, double) { return extreme_of<largest, true>(a, b); });
  } else {
    with([](double a, double b, double) { return extreme_of<largest, false>(a, b); });
  }
}

/// Changes signs as bits do, also a NaN's.
template <bool clears>
void sign(Decoder& d, const std::string& type) {
  if (d.take("ftz")) d.fail("unsupported modifier");
  const auto change = [&]<class T>(T) {
    d.registers(1, sizeof(T));
    d.out.offset = static_cast<int64_t>(type.ends_with("x2") ? 0x80008000u : uint64_t{1} << (8 * sizeof(T) - 1));
    d.out.run = [](Block&, Warp& w, const Instruction& i, uint32_t lanes) {
      T* to = w.at<T>(i.slots[0]);
      const T* a = w.at<T>(i.slots[1]);
      const auto bits = static_cast<T>(i.offset);
      each(lanes, [=](int l) { to[l] = static_cast<T>(clears ? a[l] & ~bits : a[l] ^ bits); });
    };
  };
  const int bytes = type_bytes(type);
  if (bytes == 2) change(uint16_t{});
  if (bytes == 4) change(uint32_t{});
  if (bytes == 8) change(uint64_t{});
}

void divide(Decoder& d, const std::string& type) {
  d.take_one({"approx", "full"}, 2);
  if (!arithmetic(d, type, 2, [](double a, double b, double) { return a / b; })) {
    d.out.run = binary<double>([](double a, double b) { return a / b; });
  }
  if (d.out.widths[15] != 0) d.fail("unsupported rounding");
}

/// A function of one number.
template <class Body>
void function(Decoder& d, Body) {
  const bool approximates = d.take("approx");
  const std::string type = d.take_type();
  if (approximates && type == "f64") d.take("ftz");  // numbers so small are not told apart here
  const auto body = [](double a, double, double) { return Body{}(a); };
  if (!arithmetic(d, type, 1, body)) d.out.run = unary<double>([](double a) { return Body{}(a); });
  if (d.out.widths[15] != 0) d.fail("unsupported rounding");
}

void copysign(Decoder& d) {
  const std::string type = d.take_type();
  if (type != "f32" && type != "f64") d.fail("unsupported type");
  d.registers(2, type_bytes(type));
  // The sign is the first operand's.
  d.out.run = type == "f32" ? binary<float>([](float a, float b) { return std::copysign(b, a); })
                            : binary<double>([](double a, double b) { return std::copysign(b, a); });
}

}  // namespace

void add_float_opcodes(OpcodeTable& table) {
  table["add"] = [](Decoder& d) { by_type<add>(d, "integer add"); };
  table["sub"] = [](Decoder& d) { by_type<sub>(d, "integer sub"); };
  table["mul"] = [](Decoder& d) { by_type<mul>(d, "integer mul"); };
  table["div"] = [](Decoder& d) { by_type<divide>(d, "integer div"); };
  table["min"] = [](Decoder& d) { by_type<extreme<false>>(d, "integer min"); };
  table["max"] = [](Decoder& d) { by_type<extreme<true>>(d, "integer max"); };
  table["neg"] = [](Decoder& d) { by_type<sign<false>>(d, "integer neg"); };
  table["abs"] = [](Decoder& d) { by_type<sign<true>>(d, "integer abs"); };
  table["fma"] = fma;
  table["copysign"] = copysign;
  table["rcp"] = [](Decoder& d) { function(d, [](double a) { return 1 / a; }); };
  table["sqrt"] = [](Decoder& d) { function(d, [](double a) { return std::sqrt(a); }); };
  table["rsqrt"] = [](Decoder& d) { function(d, [](double a) { return 1 / std::sqrt(a); }); };
  table["ex2"] = [](Decoder& d) { function(d, [](double a) { return std::exp2(a); }); };
  table["lg2"] = [](Decoder& d) { function(d, [](double a) { return std::log2(a); }); };
  table["sin"] = [](Decoder& d) { function(d, [](double a) { return std::sin(a); }); };
  table["cos"] = [](Decoder& d) { function(d, [](double a) { return std::cos(a); }); };
  table["tanh"] = [](Decoder& d) { function(d, [](double a) { return std::tanh(a); }); };
}

}  // namespace lowrank::test::ptx
