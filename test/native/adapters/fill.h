// Values for adapters in tests.
#pragma once

#include "adapters/adapter.h"
#include "host.h"

namespace lowrank::test {

/// Fills every parameter from the normal distribution, by its name.
inline void fill_all(HostAdapter& adapter) {
  for (size_t i = 0; i < adapter.spec().parameters.size(); ++i) {
    const ParameterSpec& p = adapter.spec().parameters[i];
    fill_normal(adapter.data(static_cast<int>(i)), p.rows * p.cols, 1, 7, p.name);
  }
}

}  // namespace lowrank::test
