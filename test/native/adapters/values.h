// Values and gradients of adapters in tests.
#pragma once

#include <cmath>
#include <initializer_list>

#include "check.h"
#include "host.h"

namespace lowrank::test {

/// Fills every parameter from the normal distribution, by its name.
inline void fill_all(HostAdapter& adapter) {
  for (size_t i = 0; i < adapter.spec().parameters.size(); ++i) {
    const ParameterSpec& p = adapter.spec().parameters[i];
    fill_normal(adapter.data(static_cast<int>(i)), p.rows * p.cols, 1, 7, p.name);
  }
}

/// A parameter, or its gradient, as the CPU's kernels take it.
inline Ptr<float> value_of(const HostAdapter& adapter, int parameter) { return adapter.at(parameter); }
inline Ptr<float> gradient_of(HostAdapter& adapter, int parameter) {
  return adapter.at(parameter, AdapterArray::gradient);
}

/// Holds the gradients of these parameters to central differences of the loss, which is linear in each of them.
template <class Loss>
void check_gradients(HostAdapter& adapter, std::initializer_list<int> parameters, double tolerance, Loss&& loss) {
  for (const int parameter : parameters) {
    const ParameterSpec& p = adapter.spec().parameters[static_cast<size_t>(parameter)];
    for (int64_t i = 0; i < p.rows * p.cols; ++i) {
      float& value = adapter.data(parameter)[i];
      const float kept = value;
      value = kept + 0.5f;
      const double above = loss();
      value = kept - 0.5f;
      const double below = loss();
      value = kept;
      CHECK(std::fabs(adapter.data(parameter, AdapterArray::gradient)[i] - (above - below)) < tolerance);
    }
  }
}

}  // namespace lowrank::test
