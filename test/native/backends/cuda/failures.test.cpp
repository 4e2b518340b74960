// Whole runs on the stand-in driver in which a call of the driver fails.
#include "backends/cuda/card_test.h"
#include "backends/cuda/device.h"
#include "core/error.h"
#include "runtime/ways.h"

namespace lowrank::test {
namespace {

TEST("on CUDA: every call of the driver that fails in a run ends in one clear error and leaves nothing behind") {
  Way way{lora(0.2)};
  check_adapter(way.spec);
  Pool pool(1);
  int failed = 0;
  for (const char* const call : {"cuMemAlloc_v2", "cuMemHostAlloc", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuMemsetD8Async",
                                 "cuStreamSynchronize", "cuEventCreate", "cuModuleLoadData", "cuModuleGetFunction", "cuLaunchKernel"})
    for (const int use : {1, 2, 5, 13, 40}) {
      StandinCard card({{"LOWRANK_STANDIN_FAIL", std::string(call) + ":" + std::to_string(use)}});
      try {
        cuda::CudaDevice device(card.driver(), card.found(), card.pack());
        Context context{pool, device};
        (void)results(context, pool, way);
      } catch (const Error& error) {
        const std::string code = error.code();
        CHECK(code == "DEVICE" || code == "OUT_OF_MEMORY");
        ++failed;
      }
      if (standin_leaks() != "") report(__FILE__, __LINE__, std::string(call) + " at use " + std::to_string(use) + ": " + standin_leaks());
    }
  CHECK_LE(25, failed);
}

}  // namespace
}  // namespace lowrank::test
