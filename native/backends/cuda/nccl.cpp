#include "backends/cuda/nccl.h"

#include <cstdlib>
#include <utility>

#include "core/error.h"
#include "os/library.h"
#include "os/python_libraries.h"

namespace lowrank::cuda {
std::shared_ptr<const Nccl> Nccl::open(std::string& reason) {
  reason.clear();
  if (os::environment("LOWRANK_NCCL") == "off") {
    reason = "LOWRANK_NCCL=off is set";
    return nullptr;
  }
  const std::string named = os::environment("LOWRANK_LIBNCCL");
  if (named.empty() && !os::environment("LOWRANK_LIBCUDA").empty()) {
    reason = "LOWRANK_LIBCUDA names a driver, and LOWRANK_LIBNCCL no library";
    return nullptr;
  }
  const std::vector<std::string> candidates = named.empty() ? nccl_candidates() : std::vector{named};
  if (candidates.empty()) reason = "NVIDIA has no NCCL for this system";
  for (const std::string& path : candidates) {
    if (!reason.empty()) reason += "; ";
    const os::Library library(path);
    if (!library) {
      reason += library.reason();
      continue;
    }
    Calls calls;
    const char* missing = nullptr;
#define LOWRANK_NCCL_FIND(call, Result, parameters)                         \
  calls.call = reinterpret_cast<decltype(calls.call)>(library.find(#call)); \
  if (calls.call == nullptr && missing == nullptr) missing = #call;
    LOWRANK_NCCL_CALLS(LOWRANK_NCCL_FIND)
#undef LOWRANK_NCCL_FIND
    if (missing == nullptr) {
      reason.clear();
      return std::shared_ptr<const Nccl>(new Nccl(calls, path));
    }
    reason.append(path).append(": it has no ").append(missing).append(", as NCCL before 2.7");
  }
  return nullptr;
}

std::vector<std::string> nccl_candidates() {
  const std::string name = os::versioned_library("nccl", 2);
  if (name.empty()) return {};
  const char* const names[] = {name.c_str()};
  const char* const folders[] = {"nvidia/nccl/lib"};
  std::vector<std::string> all = os::python_libraries(names, folders);
  all.insert(all.begin(), name);
  return all;
}

std::string Nccl::version() const {
  int number = 0;
  if (calls_.ncclGetVersion(&number) != kNcclSuccess) return "of unknown version";
  // From 2.9 on there are two digits for the minor number.
  const int major = number < 10000 ? number / 1000 : number / 10000;
  const int minor = number < 10000 ? number % 1000 / 100 : number % 10000 / 100;
  return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(number % 100);
}

NcclId Nccl::new_id() const {
  NcclId id{};
  check(calls_.ncclGetUniqueId(&id), "ncclGetUniqueId");
  return id;
}

void Nccl::check(int error, const char* call) const {
  if (error == kNcclSuccess || error == kNcclInProgress) return;
  const char* const text = calls_.ncclGetErrorString(error);
  fail("DEVICE", "NCCL ", version(), " (", path_, ") failed: ", call, ": ", text == nullptr ? "" : text, " (", error,
       "). NCCL_DEBUG=WARN makes it say more, and LOWRANK_NCCL=off adds up gradients through the host");
}

}  // namespace lowrank::cuda
