#pragma once

namespace lowrank {

/// Index of an adapter's parameter, which lib/ calls by its name; -1: none.
struct ParameterIndex {
  int value = -1;

  constexpr ParameterIndex() = default;
  constexpr ParameterIndex(int index) : value(index) {}  // NOLINT(google-explicit-constructor)
  constexpr operator int() const { return value; }       // NOLINT(google-explicit-constructor)
};

}  // namespace lowrank
