// Comparisons and selections.
#include <type_traits>

#include "backends/cuda/ptx/decode.h"

namespace lowrank::test::ptx {
namespace {

enum class Comparison : uint8_t { eq, ne, lt, le, gt, ge, equ, neu, ltu, leu, gtu, geu, num, nan };

template <class T>
bool holds(Comparison comparison, T a, T b) {
  bool unordered = false;
  if constexpr (std::is_floating_point_v<T>) unordered = std::isnan(a) || std::isnan(b);
  switch (comparison) {
    case Comparison::eq:
      return !unordered && a == b;
    case Comparison::ne:
      return !unordered && a != b;
    case Comparison::lt:
      return !unordered && a < b;
    case Comparison::le:
      return !unordered && a <= b;
    case Comparison::gt:
      return !unordered && a > b;
    case Comparison::ge:
      return !unordered && a >= b;
    case Comparison::equ:
      return unordered || a == b;
    case Comparison::neu:
      return unordered || a != b;
    case Comparison::ltu:
      return unordered || a < b;
    case Comparison::leu:
      return unordered || a <= b;
    case Comparison::gtu:
      return unordered || a > b;
    case Comparison::geu:
      return unordered || a >= b;
    case Comparison::num:
      return !unordered;
    case Comparison::nan:
      return unordered;
  }
  return false;
}

Comparison take_comparison(Decoder& d) {
  const int found = d.take_one({"eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num",
                                "nan", "lo", "ls", "hi", "hs"});
  // Unsigned names of the same.
  constexpr Comparison unsigned_names[] = {Comparison::lt, Comparison::le, Comparison::gt, Comparison::ge};
  return found < 14 ? static_cast<Comparison>(found) : unsigned_names[found - 14];
}

/// body(T{}, U{}): the type in a register and the one that is compared.
template <class Body>
void with_comparable(Decoder& d, const std::string& type, Body body) {
  if (with_integer(type, [&]<class T>(T) { body(T{}, T{}); })) return;
  if (type == "f32") return body(float{}, float{});
  if (type == "f64") return body(double{}, double{});
  if (type == "f16") return body(Half{}, double{});
  if (type == "bf16") return body(Bfloat16{}, double{});
  d.fail("unsupported type ." + type);
}

template <class T, class U>
uint32_t compare(Warp& w, const Instruction& i, uint32_t lanes, size_t first) {
  const T *a = w.at<T>(i.slots[first]), *b = w.at<T>(i.slots[first + 1]);
  const auto comparison = static_cast<Comparison>(i.variant);
  uint32_t found = 0;
  for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    const int l = std::countr_zero(rest);
    if (holds<U>(comparison, static_cast<U>(a[l]), static_cast<U>(b[l]))) found |= 1u << l;
  }
  return found;
}

/// p|q = (a comparison b) and/or/xor c; q is the same of the opposite.
void setp(Decoder& d) {
  d.out.variant = static_cast<uint8_t>(take_comparison(d));
  if (d.take("ftz")) d.fail("unsupported modifier");
  const int joins = d.take_one({"and", "or", "xor"}, 3);
  const std::string type = d.take_type();
  d.expect_operands(joins == 3 ? 3 : 4, joins == 3 ? 3 : 4);
  const std::string& targets = d.operand(0);
  const size_t bar = targets.find('|');
  d.out.slots[0] = d.predicate_target(targets.substr(0, bar));
  d.out.slots[1] = bar == std::string::npos ? kNone : d.predicate_target(targets.substr(bar + 1));
  d.out.count = static_cast<uint8_t>(joins);
  if (joins != 3) {
    bool negated = false;
    d.out.slots[4] = d.predicate(d.operand(3), negated);
    d.out.widths[4] = negated;
  }
  with_comparable(d, type, [&]<class T, class U>(T, U) {
    for (size_t k = 1; k < 3; ++k) d.out.slots[k + 1] = d.source(d.operand(k), sizeof(T));
    d.out.run = [](Block&, Warp& w, const Instruction& i, uint32_t lanes) {
      const uint32_t found = compare<T, U>(w, i, lanes, 2);
      const uint32_t c = i.count == 3 ? 0 : w.predicate(i.slots[4]) ^ (i.widths[4] ? kAllLanes : 0);
      const auto join = [&](uint32_t value) {
        return i.count == 0 ? value & c : i.count == 1 ? value | c : i.count == 2 ? value ^ c : value;
      };
      const auto put = [&](uint32_t slot, uint32_t value) {
        uint32_t& to = w.predicate(slot);
        to = (to & ~lanes) | (value & lanes);
      };
      const uint32_t p = join(found), q = join(~found);
      put(i.slots[0], p);
      if (i.slots[1] != kNone) put(i.slots[1], q);
    };
  });
}

/// All bits, or 1.0, where a comparison holds.
void set(Decoder& d) {
  d.out.variant = static_cast<uint8_t>(take_comparison(d));
  const std::string type = d.take_type(), result = d.take_type();
  if (result != "u32" && result != "s32" && result != "f32") d.fail("unsupported result");
  d.expect_operands(3, 3);
  d.out.slots[0] = d.target(d.operand(0), 4);
  d.out.offset = result == "f32" ? 0x3f800000 : 0xffffffff;
  with_comparable(d, type, [&]<class T, class U>(T, U) {
    for (size_t k = 1; k < 3; ++k) d.out.slots[k] = d.source(d.operand(k), sizeof(T));
    d.out.run = [](Block&, Warp& w, const Instruction& i, uint32_t lanes) {
      const uint32_t found = compare<T, U>(w, i, lanes, 1);
      uint32_t* to = w.at<uint32_t>(i.slots[0]);
      each(lanes, [&](int l) { to[l] = found >> l & 1 ? static_cast<uint32_t>(i.offset) : 0; });
    };
  });
}

template <class Body>
void with_width(Decoder& d, const std::string& type, Body body) {
  const int bytes = type_bytes(type);
  if (bytes == 2) return body(uint16_t{});
  if (bytes == 4) return body(uint32_t{});
  if (bytes == 8) return body(uint64_t{});
  d.fail("unsupported type ." + type);
}

void selp(Decoder& d) {
  d.expect_operands(4, 4);
  with_width(d, d.take_type(), [&]<class T>(T) {
    d.out.slots[0] = d.target(d.operand(0), sizeof(T));
    for (size_t k = 1; k < 3; ++k) d.out.slots[k] = d.source(d.operand(k), sizeof(T));
    bool negated = false;
    d.out.slots[3] = d.predicate(d.operand(3), negated);
    d.out.variant = negated;
    d.out.run = [](Block&, Warp& w, const Instruction& i, uint32_t lanes) {
      T* to = w.at<T>(i.slots[0]);
      const T *a = w.at<T>(i.slots[1]), *b = w.at<T>(i.slots[2]);
      const uint32_t chosen = w.predicate(i.slots[3]) ^ (i.variant ? kAllLanes : 0);
      each(lanes, [=](int l) { to[l] = chosen >> l & 1 ? a[l] : b[l]; });
    };
  });
}

/// a where c is not negative, else b.
void slct(Decoder& d) {
  const std::string by = d.take_type();
  if (by != "s32" && by != "f32") d.fail("unsupported type");
  d.out.variant = by == "f32";
  d.expect_operands(4, 4);
  with_width(d, d.take_type(), [&]<class T>(T) {
    d.out.slots[0] = d.target(d.operand(0), sizeof(T));
    for (size_t k = 1; k < 3; ++k) d.out.slots[k] = d.source(d.operand(k), sizeof(T));
    d.out.slots[3] = d.source(d.operand(3), 4);
    d.out.run = [](Block&, Warp& w, const Instruction& i, uint32_t lanes) {
      T* to = w.at<T>(i.slots[0]);
      const T *a = w.at<T>(i.slots[1]), *b = w.at<T>(i.slots[2]);
      const auto* c = w.at<int32_t>(i.slots[3]);
      const bool is_float = i.variant;
      each(lanes, [=](int l) {
        const bool first = is_float ? std::bit_cast<float>(c[l]) >= 0 : c[l] >= 0;
        to[l] = first ? a[l] : b[l];
      });
    };
  });
}

template <class T>
bool is_kind(int kind, T value) {
  switch (kind) {
    case 0:
      return std::isfinite(value);
    case 1:
      return std::isinf(value);
    case 2:
      return !std::isnan(value);
    case 3:
      return std::isnan(value);
    case 4:
      return std::isnormal(value);
    default:
      return std::fpclassify(value) == FP_SUBNORMAL;
  }
}

void testp(Decoder& d) {
  d.out.variant =
      static_cast<uint8_t>(d.take_one({"finite", "infinite", "number", "notanumber", "normal", "subnormal"}));
  const std::string type = d.take_type();
  if (type != "f32" && type != "f64") d.fail("unsupported type");
  d.expect_operands(2, 2);
  d.out.slots[0] = d.predicate_target(d.operand(0));
  d.out.slots[1] = d.source(d.operand(1), type_bytes(type));
  const auto make = []<class T>(T) -> Handler {
    return [](Block&, Warp& w, const Instruction& i, uint32_t lanes) {
      const T* a = w.at<T>(i.slots[1]);
      uint32_t found = 0;
      each(lanes, [&](int l) { found |= static_cast<uint32_t>(is_kind(i.variant, a[l])) << l; });
      uint32_t& to = w.predicate(i.slots[0]);
      to = (to & ~lanes) | found;
    };
  };
  d.out.run = type == "f32" ? make(float{}) : make(double{});
}

}  // namespace

void add_compare_opcodes(OpcodeTable& table) {
  table["setp"] = setp;
  table["set"] = set;
  table["selp"] = selp;
  table["slct"] = slct;
  table["testp"] = testp;
}

}  // namespace lowrank::test::ptx
