// Integers and bits.
#include <algorithm>
#include <type_traits>

#include "backends/cuda/ptx/decode.h"

namespace lowrank::test::ptx {
namespace {

/// Arithmetic that wraps, for any width.
template <class T>
using Wrap = std::conditional_t<(sizeof(T) < 4), uint32_t, std::make_unsigned_t<T>>;

template <class T>
constexpr int kBits = 8 * static_cast<int>(sizeof(T));

template <class T>
using Wide = std::conditional_t<
    std::is_signed_v<T>,
    std::conditional_t<sizeof(T) == 2, int32_t, std::conditional_t<sizeof(T) == 4, int64_t, __int128>>,
    std::conditional_t<sizeof(T) == 2, uint32_t, std::conditional_t<sizeof(T) == 4, uint64_t, unsigned __int128>>>;

/// The integer type that the last modifier names.
template <class Body>
void typed(Decoder& d, Body body) {
  const std::string type = d.take_type();
  if (!with_integer(type, body)) d.fail("unsupported type ." + type);
}

void add(Decoder& d) {
  if (d.take("sat")) {
    if (d.take_type() != "s32") d.fail("unsupported saturation");
    d.registers(2, 4);
    d.out.run = binary<int32_t>([](int32_t a, int32_t b) {
      return static_cast<int32_t>(std::clamp<int64_t>(int64_t{a} + b, INT32_MIN, INT32_MAX));
    });
    return;
  }
  typed(d, [&]<class T>(T) {
    d.registers(2, sizeof(T));
    d.out.run = binary<T>([](T a, T b) { return static_cast<T>(static_cast<Wrap<T>>(a) + static_cast<Wrap<T>>(b)); });
  });
}

void sub(Decoder& d) {
  typed(d, [&]<class T>(T) {
    d.registers(2, sizeof(T));
    d.out.run = binary<T>([](T a, T b) { return static_cast<T>(static_cast<Wrap<T>>(a) - static_cast<Wrap<T>>(b)); });
  });
}

/// d = a * b (+ c): the lower or upper half, or all of it in a register of twice the width.
void multiply(Decoder& d, bool adds) {
  const int part = d.take_one({"lo", "hi", "wide"});
  typed(d, [&]<class T>(T) {
    d.expect_operands(adds ? 4 : 3, adds ? 4 : 3);
    d.out.slots[1] = d.source(d.operand(1), sizeof(T));
    d.out.slots[2] = d.source(d.operand(2), sizeof(T));
    const int width = part == 2 ? 2 * static_cast<int>(sizeof(T)) : static_cast<int>(sizeof(T));
    if (width > 8) d.fail("a product that is too wide");
    d.out.slots[0] = d.target(d.operand(0), width);
    d.out.slots[3] = adds ? d.source(d.operand(3), width) : 0;
    d.out.variant = adds;
    if (part == 2) {
      if constexpr (sizeof(T) < 8) {
        d.out.run = [](Block&, Warp& w, const Instruction& i, uint32_t lanes) {
          using W = Wide<T>;
          const T *a = w.at<T>(i.slots[1]), *b = w.at<T>(i.slots[2]);
          W *to = w.at<W>(i.slots[0]), *c = w.at<W>(i.slots[3]);
          const auto product = [=](int l) { return static_cast<Wrap<W>>(static_cast<W>(a[l]) * static_cast<W>(b[l])); };
          if (i.variant) {
            each(lanes, [=](int l) { to[l] = static_cast<W>(product(l) + static_cast<Wrap<W>>(c[l])); });
          } else {
            each(lanes, [=](int l) { to[l] = static_cast<W>(product(l)); });
          }
        };
      }
    } else if (part == 0 && !adds) {
      d.out.run = binary<T>([](T a, T b) { return static_cast<T>(static_cast<Wrap<T>>(a) * static_cast<Wrap<T>>(b)); });
    } else if (part == 0) {
      d.out.run = ternary<T>([](T a, T b, T c) {
        return static_cast<T>(static_cast<Wrap<T>>(a) * static_cast<Wrap<T>>(b) + static_cast<Wrap<T>>(c));
      });
    } else if (!adds) {
      d.out.run = binary<T>(
          [](T a, T b) { return static_cast<T>(static_cast<Wide<T>>(a) * static_cast<Wide<T>>(b) >> kBits<T>); });
    } else {
      d.out.run = ternary<T>([](T a, T b, T c) {
        const T high = static_cast<T>(static_cast<Wide<T>>(a) * static_cast<Wide<T>>(b) >> kBits<T>);
        return static_cast<T>(static_cast<Wrap<T>>(high) + static_cast<Wrap<T>>(c));
      });
    }
  });
}

/// Division by zero has no defined result: all bits are set, and nothing stops.
template <class T>
T quotient(T a, T b) {
  if (b == 0) return static_cast<T>(-1);
  if (std::is_signed_v<T> && b == static_cast<T>(-1)) return static_cast<T>(0 - static_cast<Wrap<T>>(a));
  return static_cast<T>(a / b);
}

template <class T>
T remainder_of(T a, T b) {
  if (b == 0) return static_cast<T>(-1);
  if (std::is_signed_v<T> && b == static_cast<T>(-1)) return 0;
  return static_cast<T>(a % b);
}

void divide(Decoder& d, bool remainder) {
  typed(d, [&]<class T>(T) {
    d.registers(2, sizeof(T));
    d.out.run = remainder ? binary<T>([](T a, T b) { return remainder_of(a, b); })
                          : binary<T>([](T a, T b) { return quotient(a, b); });
  });
}

void extreme(Decoder& d, bool largest) {
  typed(d, [&]<class T>(T) {
    d.registers(2, sizeof(T));
    if (largest) {
      d.out.run = binary<T>([](T a, T b) { return std::max(a, b); });
    } else {
      d.out.run = binary<T>([](T a, T b) { return std::min(a, b); });
    }
  });
}

void negate(Decoder& d) {
  typed(d, [&]<class T>(T) {
    d.registers(1, sizeof(T));
    d.out.run = unary<T>([](T a) { return static_cast<T>(0 - static_cast<Wrap<T>>(a)); });
  });
}

void absolute(Decoder& d) {
  typed(d, [&]<class T>(T) {
    d.registers(1, sizeof(T));
    d.out.run = unary<T>([](T a) { return a < T{0} ? static_cast<T>(0 - static_cast<Wrap<T>>(a)) : a; });
  });
}

/// and, or, xor of registers or of predicates.
template <class Body>
void logic(Decoder& d, Body body) {
  const std::string type = d.take_type();
  if (type == "pred") {
    d.expect_operands(3, 3);
    d.out.slots[0] = d.predicate_target(d.operand(0));
    for (size_t i = 1; i < 3; ++i) {
      bool negated = false;
      d.out.slots[i] = d.predicate(d.operand(i), negated);
      d.out.widths[i] = negated;
    }
    d.out.run = [](Block&, Warp& w, const Instruction& i, uint32_t lanes) {
      const uint32_t a = w.predicate(i.slots[1]) ^ (i.widths[1] ? kAllLanes : 0);
      const uint32_t b = w.predicate(i.slots[2]) ^ (i.widths[2] ? kAllLanes : 0);
      uint32_t& to = w.predicate(i.slots[0]);
      to = (to & ~lanes) | (Body{}(a, b) & lanes);
    };
    return;
  }
  const bool known = with_integer(type, [&]<class T>(T) {
    d.registers(2, sizeof(T));
    d.out.run = binary<T>([](T a, T b) { return static_cast<T>(Body{}(a, b)); });
  });
  if (!known) d.fail("unsupported type ." + type);
  (void)body;
}

void invert(Decoder& d) {
  const std::string type = d.take_type();
  if (type == "pred") {
    d.expect_operands(2, 2);
    bool negated = false;
    d.out.slots[0] = d.predicate_target(d.operand(0));
    d.out.slots[1] = d.predicate(d.operand(1), negated);
    d.out.widths[1] = !negated;
    d.out.run = [](Block&, Warp& w, const Instruction& i, uint32_t lanes) {
      uint32_t& to = w.predicate(i.slots[0]);
      to = (to & ~lanes) | ((w.predicate(i.slots[1]) ^ (i.widths[1] ? kAllLanes : 0)) & lanes);
    };
    return;
  }
  const bool known = with_integer(type, [&]<class T>(T) {
    d.registers(1, sizeof(T));
    d.out.run = unary<T>([](T a) { return static_cast<T>(~a); });
  });
  if (!known) d.fail("unsupported type ." + type);
}

/// Distances of the type's width and more shift everything out.
void shift(Decoder& d, bool left) {
  typed(d, [&]<class T>(T) {
    d.expect_operands(3, 3);
    d.out.slots[0] = d.target(d.operand(0), sizeof(T));
    d.out.slots[1] = d.source(d.operand(1), sizeof(T));
    d.out.slots[2] = d.source(d.operand(2), 4);
    d.out.variant = left;
    d.out.run = [](Block&, Warp& w, const Instruction& i, uint32_t lanes) {
      T* to = w.at<T>(i.slots[0]);
      const T* a = w.at<T>(i.slots[1]);
      const uint32_t* by = w.at<uint32_t>(i.slots[2]);
      constexpr auto bits = static_cast<uint32_t>(kBits<T>);
      if (i.variant) {
        each(lanes, [=](int l) { to[l] = by[l] < bits ? static_cast<T>(static_cast<Wrap<T>>(a[l]) << by[l]) : T{0}; });
      } else {
        each(lanes, [=](int l) {
          to[l] = by[l] < bits ? static_cast<T>(a[l] >> by[l]) : static_cast<T>(a[l] < T{0} ? -1 : 0);
        });
      }
    };
  });
}

void lop3(Decoder& d) {
  if (d.take_type() != "b32") d.fail("unsupported type");
  d.expect_operands(5, 5);
  d.out.slots[0] = d.target(d.operand(0), 4);
  for (size_t i = 1; i < 4; ++i) d.out.slots[i] = d.source(d.operand(i), 4);
  d.out.offset = d.immediate(d.operand(4));
  d.out.run = [](Block&, Warp& w, const Instruction& i, uint32_t lanes) {
    uint32_t* to = w.at<uint32_t>(i.slots[0]);
    const uint32_t *a = w.at<uint32_t>(i.slots[1]), *b = w.at<uint32_t>(i.slots[2]), *c = w.at<uint32_t>(i.slots[3]);
    uint32_t terms[8];
    for (int bit = 0; bit < 8; ++bit) terms[bit] = i.offset >> bit & 1 ? kAllLanes : 0;
    each(lanes, [=](int l) {
      uint32_t found = 0;
      for (int bit = 0; bit < 8; ++bit) {
        found |= terms[bit] & (bit & 4 ? a[l] : ~a[l]) & (bit & 2 ? b[l] : ~b[l]) & (bit & 1 ? c[l] : ~c[l]);
      }
      to[l] = found;
    });
  };
}

/// Funnel shift of the 64 bits b:a.
void funnel(Decoder& d) {
  const bool left = d.take_one({"l", "r"}) == 0, clamps = d.take_one({"wrap", "clamp"}) == 1;
  if (d.take_type() != "b32") d.fail("unsupported type");
  d.registers(3, 4);
  d.out.variant = static_cast<uint8_t>(2 * left + clamps);
  d.out.run = [](Block&, Warp& w, const Instruction& i, uint32_t lanes) {
    uint32_t* to = w.at<uint32_t>(i.slots[0]);
    const uint32_t *a = w.at<uint32_t>(i.slots[1]), *b = w.at<uint32_t>(i.slots[2]), *c = w.at<uint32_t>(i.slots[3]);
    const int variant = i.variant;
    each(lanes, [=](int l) {
      const uint32_t by = variant & 1 ? std::min(c[l], 32u) : c[l] & 31;
      const uint64_t both = static_cast<uint64_t>(b[l]) << 32 | a[l];
      to[l] = static_cast<uint32_t>(variant & 2 ? (both << by) >> 32 : both >> by);
    });
  };
}

/// Bytes of a and b picked by the digits of c; a digit's fourth bit spreads the sign.
void prmt(Decoder& d) {
  if (d.take_type() != "b32") d.fail("unsupported type");
  d.registers(3, 4);
  d.out.run = ternary<uint32_t>([](uint32_t a, uint32_t b, uint32_t c) {
    const uint64_t both = static_cast<uint64_t>(b) << 32 | a;
    uint32_t found = 0;
    for (int i = 0; i < 4; ++i) {
      const uint32_t digit = c >> (4 * i) & 15;
      uint32_t byte = static_cast<uint32_t>(both >> (8 * (digit & 7))) & 255;
      if (digit & 8) byte = byte & 128 ? 255 : 0;
      found |= byte << (8 * i);
    }
    return found;
  });
}

void extract(Decoder& d) {
  typed(d, [&]<class T>(T) {
    if (sizeof(T) < 4) d.fail("unsupported type");
    d.expect_operands(4, 4);
    d.out.slots[0] = d.target(d.operand(0), sizeof(T));
    d.out.slots[1] = d.source(d.operand(1), sizeof(T));
    for (size_t i = 2; i < 4; ++i) d.out.slots[i] = d.source(d.operand(i), 4);
    d.out.run = [](Block&, Warp& w, const Instruction& i, uint32_t lanes) {
      using U = std::make_unsigned_t<T>;
      T* to = w.at<T>(i.slots[0]);
      const T* a = w.at<T>(i.slots[1]);
      const uint32_t *position = w.at<uint32_t>(i.slots[2]), *length = w.at<uint32_t>(i.slots[3]);
      each(lanes, [=](int l) {
        const int from = static_cast<int>(position[l] & 255), count = static_cast<int>(length[l] & 255);
        const int top = std::min(from + count - 1, kBits<T> - 1);
        const auto bits = static_cast<U>(a[l]);
        const U sign = std::is_signed_v<T> && count > 0 ? bits >> top & 1 : U{0};
        U found = 0;
        for (int bit = 0; bit < kBits<T>; ++bit) {
          const U value = bit < count && from + bit < kBits<T> ? bits >> (from + bit) & 1 : sign;
          found |= static_cast<U>(value << bit);
        }
        to[l] = static_cast<T>(found);
      });
    };
  });
}

void insert(Decoder& d) {
  typed(d, [&]<class T>(T) {
    using U = std::make_unsigned_t<T>;
    if (sizeof(T) < 4) d.fail("unsupported type");
    d.expect_operands(5, 5);
    d.out.slots[0] = d.target(d.operand(0), sizeof(T));
    for (size_t i = 1; i < 3; ++i) d.out.slots[i] = d.source(d.operand(i), sizeof(T));
    for (size_t i = 3; i < 5; ++i) d.out.slots[i] = d.source(d.operand(i), 4);
    d.out.run = [](Block&, Warp& w, const Instruction& i, uint32_t lanes) {
      U* to = w.at<U>(i.slots[0]);
      const U *a = w.at<U>(i.slots[1]), *b = w.at<U>(i.slots[2]);
      const uint32_t *position = w.at<uint32_t>(i.slots[3]), *length = w.at<uint32_t>(i.slots[4]);
      each(lanes, [=](int l) {
        const uint32_t from = position[l] & 255, count = length[l] & 255;
        const U ones = count >= static_cast<uint32_t>(kBits<U>) ? ~U{0} : static_cast<U>((U{1} << count) - 1);
        const U mask = from >= static_cast<uint32_t>(kBits<U>) ? U{0} : static_cast<U>(ones << from);
        const U moved = from >= static_cast<uint32_t>(kBits<U>) ? U{0} : static_cast<U>(a[l] << from);
        to[l] = static_cast<U>((b[l] & ~mask) | (moved & mask));
      });
    };
  });
}

template <class T>
std::make_unsigned_t<T> without_sign(T a) {
  using U = std::make_unsigned_t<T>;
  return a < T{0} ? static_cast<U>(~static_cast<U>(a)) : static_cast<U>(a);
}

/// popc, clz, bfind: a count of 32 bits whatever the source.
template <class Body>
void counting(Decoder& d, Body) {
  typed(d, [&]<class T>(T) {
    if (sizeof(T) < 4) d.fail("unsupported type");
    d.expect_operands(2, 2);
    d.out.slots[0] = d.target(d.operand(0), 4);
    d.out.slots[1] = d.source(d.operand(1), sizeof(T));
    d.out.run = [](Block&, Warp& w, const Instruction& i, uint32_t lanes) {
      uint32_t* to = w.at<uint32_t>(i.slots[0]);
      const T* a = w.at<T>(i.slots[1]);
      each(lanes, [=](int l) { to[l] = static_cast<uint32_t>(Body{}(a[l])); });
    };
  });
}

void reverse(Decoder& d) {
  typed(d, [&]<class T>(T) {
    if (sizeof(T) < 4) d.fail("unsupported type");
    d.registers(1, sizeof(T));
    d.out.run = unary<T>([](T a) {
      using U = std::make_unsigned_t<T>;
      U found = 0;
      for (int bit = 0; bit < kBits<T>; ++bit)
        found |= static_cast<U>(static_cast<U>(a) >> bit & 1) << (kBits<T> - 1 - bit);
      return static_cast<T>(found);
    });
  });
}

/// Four products of bytes, added to c.
void dp4a(Decoder& d) {
  const std::string b = d.take_type(), a = d.take_type();
  d.registers(3, 4);
  if ((a != "s32" && a != "u32") || (b != "s32" && b != "u32")) d.fail("unsupported type");
  d.out.variant = static_cast<uint8_t>(2 * (a == "s32") + (b == "s32"));
  d.out.run = [](Block&, Warp& w, const Instruction& i, uint32_t lanes) {
    uint32_t* to = w.at<uint32_t>(i.slots[0]);
    const uint32_t *x = w.at<uint32_t>(i.slots[1]), *y = w.at<uint32_t>(i.slots[2]), *c = w.at<uint32_t>(i.slots[3]);
    const auto byte = [](uint32_t word, int k, bool has_sign) {
      const uint32_t bits = word >> (8 * k) & 255;
      return has_sign ? static_cast<int>(static_cast<int8_t>(bits)) : static_cast<int>(bits);
    };
    each(lanes, [=, variant = i.variant](int l) {
      uint32_t sum = c[l];
      for (int k = 0; k < 4; ++k) sum += static_cast<uint32_t>(byte(x[l], k, variant & 2) * byte(y[l], k, variant & 1));
      to[l] = sum;
    });
  };
}

}  // namespace

// float.cpp decides by type for opcodes that floating-point numbers have too.
void add_integer_opcodes(OpcodeTable& table) {
  table["integer add"] = add;
  table["integer sub"] = sub;
  table["integer mul"] = [](Decoder& d) { multiply(d, false); };
  table["integer div"] = [](Decoder& d) { divide(d, false); };
  table["integer min"] = [](Decoder& d) { extreme(d, false); };
  table["integer max"] = [](Decoder& d) { extreme(d, true); };
  table["integer neg"] = negate;
  table["integer abs"] = absolute;
  table["mad"] = [](Decoder& d) { multiply(d, true); };
  table["rem"] = [](Decoder& d) { divide(d, true); };
  table["and"] = [](Decoder& d) { logic(d, [](auto a, auto b) { return a & b; }); };
  table["or"] = [](Decoder& d) { logic(d, [](auto a, auto b) { return a | b; }); };
  table["xor"] = [](Decoder& d) { logic(d, [](auto a, auto b) { return a ^ b; }); };
  table["not"] = invert;
  table["shl"] = [](Decoder& d) { shift(d, true); };
  table["shr"] = [](Decoder& d) { shift(d, false); };
  table["lop3"] = lop3;
  table["shf"] = funnel;
  table["prmt"] = prmt;
  table["bfe"] = extract;
  table["bfi"] = insert;
  table["brev"] = reverse;
  table["dp4a"] = dp4a;
  table["popc"] = [](Decoder& d) {
    counting(d, []<class T>(T a) { return std::popcount(static_cast<std::make_unsigned_t<T>>(a)); });
  };
  table["clz"] = [](Decoder& d) {
    counting(d, []<class T>(T a) { return std::countl_zero(static_cast<std::make_unsigned_t<T>>(a)); });
  };
  table["bfind"] = [](Decoder& d) {
    // Position of the highest bit that differs from the sign, or how far it is from the top; -1 for none.
    if (d.take("shiftamt")) {
      counting(d, []<class T>(T a) { return without_sign(a) == 0 ? -1 : std::countl_zero(without_sign(a)); });
    } else {
      counting(d, []<class T>(T a) { return kBits<T> - 1 - std::countl_zero(without_sign(a)); });
    }
  };
}

}  // namespace lowrank::test::ptx
