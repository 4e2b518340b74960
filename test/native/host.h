// Adapters in the memory of the process, whose numbers tests look at where they lie.
#pragma once

#include <utility>

#include "adapters/adapter.h"
#include "backends/cpu/device.h"

namespace lowrank {

struct HostAdapter final : Adapter {
  explicit HostAdapter(AdapterSpec spec) : Adapter(std::move(spec), cpu::memory()) {}
  float* data(int parameter, AdapterArray array = AdapterArray::value) const { return cpu::host(at(parameter, array)); }
  float* numbers(AdapterArray array) const { return cpu::host(span(array)); }
};

}  // namespace lowrank
