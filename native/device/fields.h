// Visits the fields of an aggregate struct, such as a kernel, one by one.
#pragma once

#include <cstddef>

namespace lowrank {
namespace fields {

struct Any {
  template <class T>
  operator T() const;
};

/// Number of fields: the number of values that can initialize a T. At most 25.
template <class T, class... Values>
constexpr size_t count() {
  if constexpr (sizeof...(Values) > 24)  // more than each_field knows
    return sizeof...(Values);
  else if constexpr (requires { T{Values{}..., Any{}}; })
    return count<T, Values..., Any>();
  else
    return sizeof...(Values);
}

}  // namespace fields

/// Calls see(field) for each field, in order.
template <class T, class See>
constexpr void each_field(T& of, See&& see) {
  constexpr size_t count = fields::count<T>();
  static_assert(count <= 24, "each_field knows structs of at most 24 fields");
  const auto all = [&see](auto&... fields) { (see(fields), ...); };
  // clang-format off: a line a number
#define LOWRANK_FIELDS(number, ...) \
  if constexpr (count == number) { auto& [__VA_ARGS__] = of; all(__VA_ARGS__); }
  LOWRANK_FIELDS(1, a)
  else LOWRANK_FIELDS(2, a, b)
  else LOWRANK_FIELDS(3, a, b, c)
  else LOWRANK_FIELDS(4, a, b, c, d)
  else LOWRANK_FIELDS(5, a, b, c, d, e)
  else LOWRANK_FIELDS(6, a, b, c, d, e, f)
  else LOWRANK_FIELDS(7, a, b, c, d, e, f, g)
  else LOWRANK_FIELDS(8, a, b, c, d, e, f, g, h)
  else LOWRANK_FIELDS(9, a, b, c, d, e, f, g, h, i)
  else LOWRANK_FIELDS(10, a, b, c, d, e, f, g, h, i, j)
  else LOWRANK_FIELDS(11, a, b, c, d, e, f, g, h, i, j, k)
  else LOWRANK_FIELDS(12, a, b, c, d, e, f, g, h, i, j, k, l)
  else LOWRANK_FIELDS(13, a, b, c, d, e, f, g, h, i, j, k, l, m)
  else LOWRANK_FIELDS(14, a, b, c, d, e, f, g, h, i, j, k, l, m, n)
  else LOWRANK_FIELDS(15, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o)
  else LOWRANK_FIELDS(16, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p)
  else LOWRANK_FIELDS(17, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q)
  else LOWRANK_FIELDS(18, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r)
  else LOWRANK_FIELDS(19, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s)
  else LOWRANK_FIELDS(20, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t)
  else LOWRANK_FIELDS(21, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u)
  else LOWRANK_FIELDS(22, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v)
  else LOWRANK_FIELDS(23, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w)
  else LOWRANK_FIELDS(24, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x)
#undef LOWRANK_FIELDS
  // clang-format on
}

/// Bytes of all fields: those of the struct if there are none between and behind them.
template <class T>
constexpr size_t bytes_of_fields() {
  T of{};
  size_t bytes = 0;
  each_field(of, [&bytes](auto& field) { bytes += sizeof field; });
  return bytes;
}

}  // namespace lowrank
