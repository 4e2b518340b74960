// Moves and conversions.
#include <algorithm>
#include <type_traits>

#include "backends/cuda/ptx/decode.h"

namespace lowrank::test::ptx {
namespace {

// In an instruction's `count`; the rounding is in widths[15].
constexpr uint8_t kFlush = 1, kSaturate = 2, kWhole = 4;

/// Bits of a register of 2, 4 or 8 bytes.
uint64_t bits_at(const Warp& w, uint32_t slot, int width, int lane) {
  if (width == 8) return w.at<uint64_t>(slot)[lane];
  if (width == 4) return w.at<uint32_t>(slot)[lane];
  return w.at<uint16_t>(slot)[lane];
}

void put_bits(const Warp& w, uint32_t slot, int width, int lane, uint64_t bits) {
  if (width == 8) w.at<uint64_t>(slot)[lane] = bits;
  if (width == 4) w.at<uint32_t>(slot)[lane] = static_cast<uint32_t>(bits);
  if (width == 2) w.at<uint16_t>(slot)[lane] = static_cast<uint16_t>(bits);
}

template <class T>
constexpr bool is_integer = std::is_integral_v<T>;

double rounded_to_whole(double value, Rounding rounding) {
  switch (rounding) {
    case Rounding::nearest:
      return std::nearbyint(value);
    case Rounding::zero:
      return std::trunc(value);
    case Rounding::down:
      return std::floor(value);
    case Rounding::up:
      return std::ceil(value);
  }
  return value;
}

/// Out of range becomes the nearest number of the type, a NaN 0.
template <class T>
T to_integer(double value) {
  if (std::isnan(value)) return 0;
  if (value <= static_cast<double>(std::numeric_limits<T>::min())) return std::numeric_limits<T>::min();
  // The largest number of 64 bits is no double: the next one is too large.
  if (value >= static_cast<double>(std::numeric_limits<T>::max())) return std::numeric_limits<T>::max();
  return static_cast<T>(value);
}

template <class From, class To>
To converted(From value, const Instruction& i) {
  const auto rounding = static_cast<Rounding>(i.widths[15]);
  if constexpr (is_integer<From> && is_integer<To>) {
    if (!(i.count & kSaturate)) return static_cast<To>(value);
    using Both = __int128;
    return static_cast<To>(std::clamp<Both>(value, std::numeric_limits<To>::min(), std::numeric_limits<To>::max()));
  } else if constexpr (is_integer<From>) {
    if constexpr (std::is_same_v<To, float>) {
      if (rounding == Rounding::nearest) return static_cast<float>(value);
      return to_f32(static_cast<double>(value), rounding);
    } else if constexpr (std::is_same_v<To, double>) {
      return static_cast<double>(value);
    } else {
      return To::of(static_cast<double>(value), rounding);
    }
  } else {
    auto number = static_cast<double>(value);
    if ((i.count & kFlush) && std::is_same_v<From, float>) number = flush(static_cast<float>(value));
    if constexpr (is_integer<To>) {
      return to_integer<To>(rounded_to_whole(number, rounding));
    } else {
      if (i.count & kWhole) number = rounded_to_whole(number, rounding);
      if (i.count & kSaturate) number = number > 0 ? std::fmin(number, 1.0) : 0.0;
      if constexpr (std::is_same_v<To, double>) {
        return number;
      } else if constexpr (std::is_same_v<To, float>) {
        const float found = to_f32(number, i.count & kWhole ? Rounding::nearest : rounding);
        return i.count & kFlush ? flush(found) : found;
      } else {
        return To::of(number, rounding);
      }
    }
  }
}

template <class From, class To>
void convert(Block&, Warp& w, const Instruction& i, uint32_t lanes) {
  each(lanes, [&](int l) {
    const uint64_t bits = bits_at(w, i.slots[1], i.widths[1], l);
    From value;
    std::memcpy(&value, &bits, sizeof value);
    const To found = converted<From, To>(value, i);
    uint64_t result = 0;
    if constexpr (is_integer<To>) {
      result = static_cast<uint64_t>(static_cast<std::conditional_t<std::is_signed_v<To>, int64_t, uint64_t>>(found));
    } else {
      std::memcpy(&result, &found, sizeof found);
    }
    put_bits(w, i.slots[0], i.widths[0], l, result);
  });
}

template <class Body>
bool with_number(const std::string& type, Body body) {
  if (type == "u8") return body(uint8_t{}), true;
  if (type == "s8") return body(int8_t{}), true;
  if (type == "f16") return body(Half{}), true;
  if (type == "bf16") return body(Bfloat16{}), true;
  if (type == "f32") return body(float{}), true;
  if (type == "f64") return body(double{}), true;
  return type[0] != 'b' && with_integer(type, body);
}

template <class T>
void pack(Block&, Warp& w, const Instruction& i, uint32_t lanes) {
  T* to = w.at<T>(i.slots[0]);
  const float *high = w.at<float>(i.slots[1]), *low = w.at<float>(i.slots[2]);
  const auto rounding = static_cast<Rounding>(i.widths[15]);
  each(lanes, [=](int l) {
    to[2 * l] = T::of(low[l], rounding);
    to[2 * l + 1] = T::of(high[l], rounding);
  });
}

void cvt(Decoder& d) {
  const std::string from = d.take_type(), to = d.take_type();
  const int whole = d.take_one({"rni", "rzi", "rmi", "rpi"}, 4);
  const int rounding = d.take_one({"rn", "rz", "rm", "rp"}, 4);
  d.out.count =
      static_cast<uint8_t>((d.take("ftz") ? kFlush : 0) | (d.take("sat") ? kSaturate : 0) | (whole < 4 ? kWhole : 0));
  d.out.widths[15] = static_cast<uint8_t>(whole < 4 ? whole : rounding < 4 ? rounding : 0);
  if (to == "bf16x2" || to == "f16x2") {
    if (from != "f32" || d.out.count != 0 || rounding > 1) d.fail("unsupported conversion");
    d.registers(2, 4);
    d.out.run = to == "f16x2" ? pack<Half> : pack<Bfloat16>;
    return;
  }
  d.expect_operands(2, 2);
  int width = 0;
  d.out.slots[1] = d.any_source(d.operand(1), std::max(type_bytes(from), 2), width);
  d.out.widths[1] = static_cast<uint8_t>(width);
  if (width < type_bytes(from)) d.fail("the source is too narrow");
  d.out.slots[0] = d.any_target(d.operand(0), width);
  d.out.widths[0] = static_cast<uint8_t>(width);
  if (width < type_bytes(to)) d.fail("the target is too narrow");
  const bool narrows =
      (from[0] == 'f' || from[0] == 'b') && to[0] != 's' && to[0] != 'u' && type_bytes(to) < type_bytes(from);
  const bool to_whole = (from[0] == 'f' || from[0] == 'b') && (to[0] == 's' || to[0] == 'u');
  if (narrows && rounding == 4) d.fail("a rounding is missing");
  if (to_whole && whole == 4) d.fail("a rounding is missing");
  const bool known = with_number(from, [&]<class From>(From) {
    if (!with_number(to, [&]<class To>(To) { d.out.run = convert<From, To>; })) d.fail("unsupported type ." + to);
  });
  if (!known) d.fail("unsupported type ." + from);
}

void unpack(Block&, Warp& w, const Instruction& i, uint32_t lanes) {
  each(lanes, [&](int l) {
    uint64_t bits = bits_at(w, i.slots[15], i.widths[15], l);
    for (size_t k = 0; k < i.count; ++k) {
      put_bits(w, i.slots[k], i.bytes, l, bits);
      bits >>= 8 * i.bytes;
    }
  });
}

void gather(Block&, Warp& w, const Instruction& i, uint32_t lanes) {
  each(lanes, [&](int l) {
    uint64_t bits = 0;
    for (size_t k = i.count; k-- > 0;) bits = bits << (8 * i.bytes) | bits_at(w, i.slots[k], i.bytes, l);
    put_bits(w, i.slots[15], i.widths[15], l, bits);
  });
}

void mov(Decoder& d) {
  const std::string type = d.take_type();
  d.expect_operands(2, 2);
  if (type == "pred") {
    bool negated = false;
    d.out.slots[0] = d.predicate_target(d.operand(0));
    d.out.slots[1] = d.predicate(d.operand(1), negated);
    d.out.variant = negated;
    d.out.run = [](Block&, Warp& w, const Instruction& i, uint32_t lanes) {
      uint32_t& to = w.predicate(i.slots[0]);
      to = (to & ~lanes) | ((w.predicate(i.slots[1]) ^ (i.variant ? kAllLanes : 0)) & lanes);
    };
    return;
  }
  const int bytes = type_bytes(type);
  if (bytes < 2) d.fail("unsupported type ." + type);
  const bool splits = d.operand(0).starts_with('{');
  if (splits || d.operand(1).starts_with('{')) {
    const auto parts = Decoder::list(d.operand(splits ? 0 : 1));
    const int part = bytes / static_cast<int>(parts.size());
    if (part < 2) d.fail("unsupported width of parts");
    d.out.count = static_cast<uint8_t>(parts.size());
    d.out.bytes = static_cast<uint8_t>(part);
    for (size_t k = 0; k < parts.size(); ++k)
      d.out.slots[k] = splits ? d.target(parts[k], part) : d.source(parts[k], part);
    d.out.slots[15] = splits ? d.source(d.operand(1), bytes) : d.target(d.operand(0), bytes);
    d.out.widths[15] = static_cast<uint8_t>(bytes);
    d.out.run = splits ? unpack : gather;
    return;
  }
  d.registers(1, bytes);
  const auto copy = [](auto a) { return a; };
  d.out.run = bytes == 2 ? unary<uint16_t>(copy) : bytes == 4 ? unary<uint32_t>(copy) : unary<uint64_t>(copy);
}

/// Between an address of a space and a generic one, which for global memory are the same.
void cvta(Decoder& d) {
  const bool to_space = d.take("to");
  const Space space = d.take_space();
  const std::string type = d.take_type();
  if (type != "u64" && type != "u32") d.fail("unsupported type ." + type);
  const uint64_t window = space == Space::shared     ? kSharedWindow
                          : space == Space::local    ? kLocalWindow
                          : space == Space::param    ? kParamWindow
                          : space == Space::constant ? kConstantWindow
                                                     : 0;
  if (space == Space::generic) d.fail("a space is missing");
  d.registers(1, type_bytes(type));
  d.out.offset = static_cast<int64_t>(to_space ? 0 - window : window);
  if (type == "u32") {
    if (!to_space) d.fail("a generic address of 32 bits");
    d.out.run = unary<uint32_t>([](uint32_t a) { return a; });
    return;
  }
  d.out.run = [](Block&, Warp& w, const Instruction& i, uint32_t lanes) {
    uint64_t* to = w.at<uint64_t>(i.slots[0]);
    const uint64_t* a = w.at<uint64_t>(i.slots[1]);
    const auto by = static_cast<uint64_t>(i.offset);
    each(lanes, [=](int l) { to[l] = a[l] + by; });
  };
}

}  // namespace

void add_convert_opcodes(OpcodeTable& table) {
  table["mov"] = mov;
  table["cvt"] = cvt;
  table["cvta"] = cvta;
}

}  // namespace lowrank::test::ptx
