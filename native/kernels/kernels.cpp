#include "kernels/kernels.h"

#include <iterator>

namespace lowrank {
namespace {

#define LOWRANK_NAME(K) K::kName,
constexpr const char* kNames[] = {LOWRANK_KERNELS(LOWRANK_NAME)};
#undef LOWRANK_NAME

}  // namespace

void operands(const Kernel& kernel, Operands& see) {
  std::visit([&](const auto& k) { k.operands(see); }, kernel);
}

const void* value_of(const Kernel& kernel) {
  return std::visit([](const auto& k) -> const void* { return &k; }, kernel);
}

double multiply_adds(const Kernel& kernel) {
  return std::visit(
      []<class K>(const K& k) {
        if constexpr (requires { k.multiply_adds(); }) return k.multiply_adds();
        return 0.0;
      },
      kernel);
}

const char* name_of(const Kernel& kernel) { return kNames[kernel.index()]; }

std::vector<const char*> kernel_names() { return {std::begin(kNames), std::end(kNames)}; }

}  // namespace lowrank
