#include "device/kernels.h"

namespace lowrank {
namespace {

template <class... K>
std::vector<const char*> names_of(const std::variant<K...>*) {
  return {K::kName...};
}

}  // namespace

std::vector<const char*> kernel_names() { return names_of(static_cast<const Kernel*>(nullptr)); }

}  // namespace lowrank
