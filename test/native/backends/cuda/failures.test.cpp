// Whole runs on the stand-in driver in which a call of the driver fails.
#include "backends/cuda/card_test.h"
#include "backends/cuda/device.h"
#include "core/error.h"
#include "runtime/ways.h"

namespace lowrank::test {
namespace {

/// Runs that end in an error because a call of the driver fails at one of some uses; each has to leave nothing behind.
/// @param library "off", or where cuBLASLt is
int runs_that_fail(const char* call, const Way& way, const char* library) {
  Pool pool(1);
  int failed = 0;
  for (const int use : {1, 2, 5, 13, 40}) {
    StandinCard card(
        {{"LOWRANK_STANDIN_FAIL", std::string(call) + ":" + std::to_string(use)}, {"LOWRANK_CUBLASLT", library}});
    cuda::FoundCard found = card.found();
    found.card.library_least = found.card.library_side = 1;
    try {
      cuda::CudaDevice device(card.driver(), found, card.pack());
      Context context{pool, device};
      (void)results(context, pool, way);
    } catch (const Error& error) {
      const std::string code = error.code();
      CHECK(code == "DEVICE" || code == "OUT_OF_MEMORY");
      ++failed;
    }
    if (standin_leaks() != "")
      report(__FILE__, __LINE__, std::string(call) + " at use " + std::to_string(use) + ": " + standin_leaks());
  }
  return failed;
}

TEST("on CUDA: every call of the driver that fails in a run ends in one clear error and leaves nothing behind") {
  Way way{lora(0.2)};
  check_adapter(way.spec);
  int failed = 0;
  for (const char* const call : {"cuDevicePrimaryCtxRetain",
                                 "cuCtxSetCurrent",
                                 "cuMemGetInfo_v2",
                                 "cuMemAlloc_v2",
                                 "cuMemFree_v2",
                                 "cuMemHostAlloc",
                                 "cuMemFreeHost",
                                 "cuMemcpyHtoDAsync_v2",
                                 "cuMemcpyDtoHAsync_v2",
                                 "cuMemcpyDtoDAsync_v2",
                                 "cuMemsetD8Async",
                                 "cuStreamCreate",
                                 "cuStreamDestroy_v2",
                                 "cuStreamSynchronize",
                                 "cuStreamWaitEvent",
                                 "cuEventCreate",
                                 "cuEventDestroy_v2",
                                 "cuEventRecord",
                                 "cuEventQuery",
                                 "cuEventSynchronize",
                                 "cuModuleLoadData",
                                 "cuModuleUnload",
                                 "cuModuleGetFunction",
                                 "cuFuncSetAttribute",
                                 "cuLaunchKernel"})
    failed += runs_that_fail(call, way, "off");
  CHECK_LE(45, failed);
#if defined(LOWRANK_CUBLASLT_STANDIN)
  Way joined = four_bits().front();
  check_adapter(joined.spec);
  CHECK_LE(3, runs_that_fail("cuMemsetD2D8Async", joined, LOWRANK_CUBLASLT_STANDIN));
#endif
}

}  // namespace
}  // namespace lowrank::test
