// Visits the fields of an aggregate struct, such as a kernel, one by one.
#pragma once

#include <cstddef>

namespace lowrank {
namespace fields {

struct Any {
  template <class T>
  operator T() const;
};

/// Number of fields: the number of values that can initialize a T. At most 14.
template <class T, class... Values>
constexpr size_t count() {
  if constexpr (sizeof...(Values) > 13)  // more than each_field knows
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
  static_assert(count <= 13, "each_field knows structs of at most 13 fields");
  const auto all = [&see](auto&... fields) { (see(fields), ...); };
  if constexpr (count == 1) {
    auto& [a] = of;
    all(a);
  } else if constexpr (count == 2) {
    auto& [a, b] = of;
    all(a, b);
  } else if constexpr (count == 3) {
    auto& [a, b, c] = of;
    all(a, b, c);
  } else if constexpr (count == 4) {
    auto& [a, b, c, d] = of;
    all(a, b, c, d);
  } else if constexpr (count == 5) {
    auto& [a, b, c, d, e] = of;
    all(a, b, c, d, e);
  } else if constexpr (count == 6) {
    auto& [a, b, c, d, e, f] = of;
    all(a, b, c, d, e, f);
  } else if constexpr (count == 7) {
    auto& [a, b, c, d, e, f, g] = of;
    all(a, b, c, d, e, f, g);
  } else if constexpr (count == 8) {
    auto& [a, b, c, d, e, f, g, h] = of;
    all(a, b, c, d, e, f, g, h);
  } else if constexpr (count == 9) {
    auto& [a, b, c, d, e, f, g, h, i] = of;
    all(a, b, c, d, e, f, g, h, i);
  } else if constexpr (count == 10) {
    auto& [a, b, c, d, e, f, g, h, i, j] = of;
    all(a, b, c, d, e, f, g, h, i, j);
  } else if constexpr (count == 11) {
    auto& [a, b, c, d, e, f, g, h, i, j, k] = of;
    all(a, b, c, d, e, f, g, h, i, j, k);
  } else if constexpr (count == 12) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l] = of;
    all(a, b, c, d, e, f, g, h, i, j, k, l);
  } else if constexpr (count == 13) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m] = of;
    all(a, b, c, d, e, f, g, h, i, j, k, l, m);
  }
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
