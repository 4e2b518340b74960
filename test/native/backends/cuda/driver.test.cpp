// The driver opened at run time, and what the probe says where CUDA is not there.
#include "backends/cuda/driver.h"

#include "standin_test.h"

namespace lowrank::test {
namespace {

std::string reasons(const cuda::Probe& probe) {
  std::string text;
  for (const std::string& line : probe.reasons) text += line + "\n";
  return text;
}

#define CHECK_REASON(probe, part) \
  CHECK_EQ(reasons(probe).find(part) == std::string::npos ? reasons(probe) + "without " + (part) : "", "")

TEST("the probe finds the cards of the stand-in driver") {
  const Environment environment{{"LOWRANK_LIBCUDA", standin_library()}, {"LOWRANK_STANDIN_DEVICES", "90,75,86"}};
  const cuda::Probe probe = cuda::probe();
  REQUIRE(probe.driver != nullptr);
  REQUIRE(probe.cards.size() == 3u);
  CHECK_EQ(probe.version, 12090);
  CHECK_EQ(probe.cards[0].card.sm, 90);
  CHECK_EQ(probe.cards[0].name, std::string("Stand-in 90"));
  CHECK_EQ(probe.cards[0].bytes, int64_t{4} << 30);
  CHECK_EQ(probe.cards[0].card.shared_bytes, 163 * 1024);
  CHECK_EQ(probe.cards[2].number, 2);
  CHECK(probe.usable() == &probe.cards[0]);
  CHECK_EQ(reasons(probe),
           std::string("cuda:1 (Stand-in 75): its compute capability is 7.5; the kernels need 8.0 (Ampere) or "
                       "newer\n"));
}

TEST("the probe says which library is missing, or is not a driver") {
  {
    const Environment environment{{"LOWRANK_LIBCUDA", "/nowhere/libcuda.so.1"}};
    const cuda::Probe probe = cuda::probe();
    CHECK(probe.driver == nullptr && probe.usable() == nullptr);
    CHECK_REASON(probe, "/nowhere/libcuda.so.1");
  }
#if defined(__linux__)
  const Environment environment{{"LOWRANK_LIBCUDA", "libpthread.so.0"}};
  CHECK_REASON(cuda::probe(), "libpthread.so.0: it has no cuInit");
#endif
}

TEST("LOWRANK_DISABLE_CUDA=1 switches CUDA off") {
  const Environment environment{{"LOWRANK_LIBCUDA", standin_library()}, {"LOWRANK_DISABLE_CUDA", "1"}};
  const cuda::Probe probe = cuda::probe();
  CHECK(probe.driver == nullptr && probe.cards.empty());
  CHECK_EQ(reasons(probe), std::string("LOWRANK_DISABLE_CUDA=1 is set\n"));
}

TEST("the probe says that a driver is too old, for all cards or for one of them") {
  Environment environment{{"LOWRANK_LIBCUDA", standin_library()}, {"LOWRANK_STANDIN_VERSION", "11080"}};
  CHECK_REASON(cuda::probe(), "the driver supports CUDA 11.8; the kernels need 12.0 (driver R525 or newer)");
  environment.set("LOWRANK_STANDIN_VERSION", "12040");
  environment.set("LOWRANK_STANDIN_DEVICES", "120");
  CHECK_REASON(cuda::probe(),
               "cuda:0 (Stand-in 120): the driver supports CUDA 12.4; this card needs 12.8 (driver R570 or newer)");
  environment.set("LOWRANK_STANDIN_DEVICES", "120,89");
  const cuda::Probe probe = cuda::probe();
  REQUIRE(probe.usable() != nullptr);
  CHECK_EQ(probe.usable()->number, 1);
}

TEST("the probe says that there is no GPU, or that it is hidden") {
  Environment environment{{"LOWRANK_LIBCUDA", standin_library()}, {"LOWRANK_STANDIN_DEVICES", ""}};
  CHECK_REASON(cuda::probe(), "cuInit: CUDA_ERROR_NO_DEVICE (100)");
  environment.set("CUDA_VISIBLE_DEVICES", "");
  CHECK_REASON(cuda::probe(), "the driver shows no GPU (CUDA_VISIBLE_DEVICES=\"\")");
}

TEST("the probe says which call of the driver failed") {
  Environment environment{{"LOWRANK_LIBCUDA", standin_library()}};
  for (const char* const name : {"cuInit", "cuDriverGetVersion", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName",
                                 "cuDeviceGetAttribute", "cuDeviceTotalMem"}) {
    const std::string call = std::string(name) + (std::string(name) == "cuDeviceTotalMem" ? "_v2" : "");
    environment.set("LOWRANK_STANDIN_FAIL", call + ":1:803");
    const cuda::Probe probe = cuda::probe();
    CHECK(probe.usable() == nullptr && probe.driver == nullptr);
    CHECK_REASON(probe, std::string(name) + ": CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)");
  }
  environment.set("LOWRANK_STANDIN_FAIL", "cuInit:1:12345");
  CHECK_REASON(cuda::probe(), "cuInit: error 12345");
}

}  // namespace
}  // namespace lowrank::test
