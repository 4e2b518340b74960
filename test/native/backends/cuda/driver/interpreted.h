// Kernels of the PTX that a module is loaded from, which the interpreter of PTX runs.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "backends/cuda/ptx/ptx.h"
#include "standin.h"

namespace lowrank::test::standin {

class InterpretedModule {
 public:
  /// Throws ptx::Unsupported.
  /// @param allocations what the device has allocated when a kernel runs
  InterpretedModule(const char* text, std::function<ptx::Memory()> allocations);
  std::optional<Kernel> kernel(const std::string& name) const;

 private:
  std::shared_ptr<const ptx::Module> module_;
  std::function<ptx::Memory()> allocations_;
};

}  // namespace lowrank::test::standin
