#include "backends/cuda/driver.h"

#include <cstdlib>
#include <exception>

#if defined(__linux__)
#include <unistd.h>
#endif

#include "os/library.h"

namespace lowrank::cuda {
namespace {

std::vector<std::string> libraries() {
  if (const std::string named = os::environment("LOWRANK_LIBCUDA"); !named.empty()) return {named};
#if defined(_WIN32)
  return {"nvcuda.dll"};
#elif defined(__APPLE__)
  return {};  // there is no driver for it
#else
  return {"libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1"};
#endif
}

/// Reasons why a driver is not there that the machine itself shows.
void add_hints(std::vector<std::string>& reasons) {
#if defined(__linux__)
  if (!os::environment("LOWRANK_LIBCUDA").empty()) return;
  if (::access("/dev/nvidiactl", F_OK) != 0 && ::access("/dev/dxg", F_OK) != 0)
    reasons.push_back(
        "/dev/nvidiactl is absent: no NVIDIA kernel driver is loaded (start a container with the NVIDIA runtime)");
#else
  (void)reasons;
#endif
}

std::shared_ptr<const Driver> open_driver(std::vector<std::string>& reasons) {
  for (const std::string& name : libraries()) {
    const os::Library library(name);
    if (!library) {
      reasons.push_back(library.reason());
      continue;
    }
    auto driver = std::make_shared<Driver>();
    const char* missing = nullptr;
#define LOWRANK_DRIVER_FIND(call, parameters)                                   \
  driver->call = reinterpret_cast<decltype(driver->call)>(library.find(#call)); \
  if (driver->call == nullptr && missing == nullptr) missing = #call;
    LOWRANK_DRIVER_CALLS(LOWRANK_DRIVER_FIND)
#undef LOWRANK_DRIVER_FIND
    if (missing == nullptr) return driver;
    reasons.push_back(name + ": it has no " + missing + ", as drivers before " + driver_floor(kOldestSm).release);
  }
  return nullptr;
}

/// Fills in what the driver says of a card, or why it says nothing.
FoundCard look_at(const Driver& driver, int number, int version) {
  FoundCard found;
  found.number = number;
  CUdevice device = 0;
  char name[128] = "", bus[32] = "";
  size_t bytes = 0;
  int major = 0, minor = 0, multiprocessors = 0, shared = 0;
  const auto attribute = [&](int which, int& value) { return driver.cuDeviceGetAttribute(&value, which, device); };
  const char* call = "cuDeviceGet";
  CUresult error = driver.cuDeviceGet(&device, number);
  const auto then = [&](const char* next, auto&& ask) {
    if (error != CUDA_SUCCESS) return;
    call = next;
    error = ask();
  };
  then("cuDeviceGetName", [&] { return driver.cuDeviceGetName(name, sizeof(name) - 1, device); });
  then("cuDeviceGetPCIBusId", [&] { return driver.cuDeviceGetPCIBusId(bus, sizeof(bus), device); });
  then("cuDeviceTotalMem", [&] { return driver.cuDeviceTotalMem_v2(&bytes, device); });
  then("cuDeviceGetAttribute", [&] { return attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, major); });
  then("cuDeviceGetAttribute", [&] { return attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, minor); });
  then("cuDeviceGetAttribute", [&] { return attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, multiprocessors); });
  then("cuDeviceGetAttribute",
       [&] { return attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, shared); });
  found.name = name;
  found.bus = bus;
  if (error != CUDA_SUCCESS) {
    found.reason = std::string(call) + ": " + driver.name_of(error);
    return found;
  }
  found.bytes = static_cast<int64_t>(bytes);
  found.card.sm = 10 * major + minor;
  found.card.multiprocessors = multiprocessors;
  found.card.shared_bytes = shared;
  const DriverFloor floor = driver_floor(found.card.sm);
  if (found.card.sm < kOldestSm) {
    found.reason = "its compute capability is " + std::to_string(major) + "." + std::to_string(minor) +
                   "; the kernels need 8.0 (Ampere) or newer";
  } else if (version < floor.version) {
    found.reason = "the driver supports CUDA " + version_text(version) + "; this card needs " +
                   version_text(floor.version) + " (driver " + floor.release + " or newer)";
  }
  return found;
}

void look(Probe& probe) {
  const Driver& driver = *probe.driver;
  const auto failed = [&](const char* call, CUresult error) {
    if (error != CUDA_SUCCESS) probe.reasons.push_back(std::string(call) + ": " + driver.name_of(error));
    return error != CUDA_SUCCESS;
  };
  if (failed("cuDriverGetVersion", driver.cuDriverGetVersion(&probe.version))) return;
  if (const DriverFloor floor = driver_floor(kOldestSm); probe.version < floor.version) {
    probe.reasons.push_back("the driver supports CUDA " + version_text(probe.version) + "; the kernels need " +
                            version_text(floor.version) + " (driver " + floor.release + " or newer)");
    return;
  }
  const auto say_hidden = [&] {
    if (const char* const visible = std::getenv("CUDA_VISIBLE_DEVICES"))
      probe.reasons.push_back(std::string("the driver shows no GPU (CUDA_VISIBLE_DEVICES=\"") + visible + "\")");
  };
  if (failed("cuInit", driver.cuInit(0))) {
    say_hidden();
    return add_hints(probe.reasons);
  }
  int count = 0;
  if (failed("cuDeviceGetCount", driver.cuDeviceGetCount(&count))) return;
  if (count == 0) {
    if (std::getenv("CUDA_VISIBLE_DEVICES") != nullptr) return say_hidden();
    probe.reasons.push_back("the driver shows no GPU");
  }
  for (int number = 0; number < count; ++number) {
    probe.cards.push_back(look_at(driver, number, probe.version));
    const FoundCard& found = probe.cards.back();
    if (!found.reason.empty())
      probe.reasons.push_back("cuda:" + std::to_string(number) + (found.name.empty() ? "" : " (" + found.name + ")") +
                              ": " + found.reason);
  }
}

}  // namespace

std::string Driver::name_of(CUresult error) const {
  const char* text = nullptr;
  const std::string number = std::to_string(error);
  if (cuGetErrorName(error, &text) != CUDA_SUCCESS || text == nullptr) return "error " + number;
  return std::string(text) + " (" + number + ")";
}

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

const FoundCard* Probe::usable() const {
  for (const FoundCard& each : cards)
    if (each.reason.empty()) return &each;
  return nullptr;
}

Probe probe() noexcept {
  Probe result;
  try {
    if (os::environment("LOWRANK_DISABLE_CUDA") == "1") {
      result.reasons.push_back("LOWRANK_DISABLE_CUDA=1 is set");
      return result;
    }
    result.driver = open_driver(result.reasons);
    if (result.driver == nullptr) {
      if (result.reasons.empty()) result.reasons.push_back("NVIDIA has no driver for this system");
      add_hints(result.reasons);
      return result;
    }
    result.reasons.clear();  // reasons of places without the driver
    look(result);
    if (result.usable() == nullptr) result.driver = nullptr;
  } catch (const std::exception& error) {
    result.driver = nullptr;
    result.reasons.push_back(error.what());
  }
  return result;
}

}  // namespace lowrank::cuda
