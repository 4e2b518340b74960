#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <set>

#include "backends/cpu/ops_support.h"
#include "backends/cuda/emulate/faults.h"
#include "backends/cuda/runner.h"

using namespace lowrank;
using namespace lowrank::cuda;

namespace {

/// The error of a launch, or nothing.
template <class Args>
std::string error_of(Runner& run, const KernelOf<Args>& kernel, const Args& args, int64_t blocks = 1,
                     int threads = 64) {
  try {
    run.launch(kernel, {blocks}, threads, args);
  } catch (const emulate::Error& error) {
    return error.what();
  }
  return "";
}

void check_fault(Fault fault, const std::string& expected, bool only_tracked = false, int64_t blocks = 1) {
  for_each_execution([&](Runner& run) {
    if (run.name().find("emulated") == std::string::npos) return;
    if (only_tracked && run.name() != "emulated and tracked") return;
    const std::string error = error_of(run, emulator_fault, {fault, run.buffer<float>(64 * blocks)}, blocks);
    CHECK(error.find(expected) != std::string::npos);
    if (error.find(expected) == std::string::npos) test::report(__FILE__, __LINE__, "it says: " + error);
  });
}

#if LOWRANK_ASAN
bool is_ended_by_sanitizer(Fault fault) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    close(STDERR_FILENO);
    emulate::Options options;
    DeviceMemory memory;
    const FaultArgs args{fault, reinterpret_cast<float*>(memory.allocate(256))};
    emulate::launch("emulator_fault", {}, 64, &args, sizeof args, 0, options);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}
#endif

double bf16(const uint16_t* at, int64_t i) { return f32_from_bf16(at[i]); }

}  // namespace

TEST("kernels run forward, in reverse, at random, and tracked but where another sanitizer is at work") {
  std::set<std::string> names;
  for_each_execution([&](Runner& run) { names.insert(run.name()); });
  for (const char* name : {"emulated forward", "emulated in reverse", "emulated at random"})
    CHECK(names.contains(name));
  CHECK_EQ(names.contains("emulated and tracked"), emulate::has_tracked_kernels());
#if !LOWRANK_ASAN
  CHECK(emulate::has_tracked_kernels() || !emulate::checks_alignment());
#endif
}

TEST("emulated matrix instructions multiply as their definition says") {
  for_each_execution([](Runner& run) {
    if (run.name().find("emulated") == std::string::npos) return;
    test::Random random(5);
    std::vector<uint16_t> a(256), b(128), transposed(128);
    for (auto& v : a) v = bf16_from_f32(static_cast<float>(random.normal()));
    for (auto& v : b) v = bf16_from_f32(static_cast<float>(random.normal()));
    for (size_t i = 0; i < 128; ++i) transposed[i % 16 * 8 + i / 16] = b[i];
    const uint16_t *left = run.buffer(a), *right = run.buffer(b), *right_t = run.buffer(transposed);
    float* const d = run.buffer<float>(128);
    const auto largest_error = [&] {
      double error = 0;
      for (int64_t i = 0; i < 16; ++i) {
        for (int64_t j = 0; j < 8; ++j) {
          double sum = 0;
          for (int64_t k = 0; k < 16; ++k) sum += bf16(left, i * 16 + k) * bf16(right, j * 16 + k);
          error = std::fmax(error, std::fabs(sum - d[i * 8 + j]));
        }
      }
      return error;
    };
    run.launch(emulator_product, {1}, 32, ProductArgs{left, right, d});
    CHECK_LE(largest_error(), 1e-5);
    run.launch(emulator_product_transposed, {1}, 32, ProductArgs{left, right_t, d});
    CHECK_LE(largest_error(), 1e-5);
    run.launch(emulator_product_swapped, {1}, 32, ProductArgs{left, right, d});
    CHECK_LE(0.5, largest_error());
  });
}

TEST("emulated lanes exchange numbers and votes") {
  for_each_execution([](Runner& run) {
    if (run.name().find("emulated") == std::string::npos) return;
    float* const out = run.buffer<float>(256);
    run.launch(emulator_lanes, {1}, 32, FaultArgs{0, out});
    for (int lane = 0; lane < 32; ++lane) {
      CHECK_EQ(out[lane], 5);
      CHECK_EQ(out[32 + lane], lane ^ 9);
      CHECK_EQ(out[64 + lane], lane + 3 < 32 ? lane + 3 : lane);
      CHECK_EQ(out[96 + lane], lane % 8 >= 2 ? lane - 2 : lane);
      CHECK_EQ(out[128 + lane], 11);
      CHECK_EQ(out[160 + lane], 7);
      CHECK_EQ(out[192 + lane], lane / 16 * 16 + 3);
      CHECK_EQ(out[224 + lane], 496);
    }
  });
}

TEST("emulated copies beside other work fill with zeros, and are late where nobody waits") {
  for_each_execution([](Runner& run) {
    if (run.name().find("emulated") == std::string::npos) return;
    std::vector<float> from(32);
    for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<float>(i + 1);
    float *const in = run.buffer(from), *const to = run.buffer<float>(32);
    const auto copy = [&](int bytes, Fault fault) {
      return error_of(run, emulator_copy, {in, bytes, fault, to}, 1, 32);
    };
    for (const int bytes : {0, 4, 12, 16}) {
      CHECK_EQ(copy(bytes, kNone), "");
      for (int i = 0; i < 32; ++i) CHECK_EQ(to[i], i % 4 < bytes / 4 ? i + 1 : 0);
    }
    CHECK(copy(17, kNone).find("from 0 to 16 bytes") != std::string::npos);
    CHECK(copy(16, kMisalignedArray).find("cp.async to an address that is not aligned") != std::string::npos);
    CHECK(copy(16, kMissingWait).find("never waited for") != std::string::npos ||
          copy(16, kMissingWait).find("still writing") != std::string::npos);
    const std::string late = copy(16, kLateWait);
    if (run.name() == "emulated and tracked") CHECK(late.find("cp.async is still writing") != std::string::npos);
    if (run.name() == "emulated in reverse") CHECK(late.empty() && std::isnan(to[0]));
  });
}

TEST("the emulator takes what is right") {
  check_fault(kNone, "");
  for_each_execution([](Runner& run) {
    if (run.name().find("emulated") == std::string::npos) return;
    CHECK_EQ(error_of(run, emulator_fault, {kNone, run.buffer<float>(192)}, 3), "");
  });
}

TEST("the emulator finds races: a missing barrier, a missing __syncwarp, blocks that write one number") {
  check_fault(kMissingBarrier, "race: ", true);
  check_fault(kMissingTrailingBarrier, "race: ", true);
  check_fault(kMissingSyncwarp, "faults.cu:", true);
  check_fault(kBlocksWriteOneNumber, "in different blocks", true, 2);
}

TEST("the emulator finds accesses outside of arrays and buffers") {
#if LOWRANK_ASAN
  CHECK(is_ended_by_sanitizer(kPastShared));
  CHECK(is_ended_by_sanitizer(kPastGlobal));
  CHECK(!is_ended_by_sanitizer(kNone));
#else
  check_fault(kPastShared, "outside of every shared array at faults.cu", true);
  check_fault(kPastGlobal, "outside of every buffer at faults.cu", true);
  for_each_execution([](Runner& run) {  // a write is seen without tracking too
    if (run.name() != "emulated forward") return;
    CHECK(error_of(run, emulator_fault, {kPastGlobal, run.buffer<float>(64)}).find("wrote beside") !=
          std::string::npos);
  });
#endif
}

TEST("the emulator finds threads that go separate ways") {
  check_fault(kBarrierInBranch, "");
  check_fault(kTwoBarriers, "divergence: __syncthreads at faults.cu");
  check_fault(kEarlyEnd, "faults.cu");
  check_fault(kTwoShuffles, "divergence: __shfl_xor_sync at faults.cu");
  for_each_execution([](Runner& run) {
    if (run.name().find("emulated") == std::string::npos) return;
    CHECK(error_of(run, emulator_fault, {kBarrierInBranch, run.buffer<float>(64)}) != "");
  });
}

TEST("the emulator refuses misuse of lanes, of alignment and of shared memory") {
  check_fault(kLaneOutsideMask, "lane that is not in its mask at faults.cu");
  check_fault(kShuffleOutsideMask, "shuffle reads a lane outside of its mask at faults.cu");
  check_fault(kActiveMask, "name the lanes at faults.cu");
  check_fault(kTooMuchShared, "48 KiB of static shared memory");
  if (emulate::checks_alignment()) check_fault(kMisalignedAccess, "aligned to 16");
}

TEST("the emulator refuses launches that no card takes") {
  for_each_execution([](Runner& run) {
    if (run.name() != "emulated forward") return;
    float* const out = run.buffer<float>(64);
    const auto launch = [&](Grid blocks, int threads, int64_t shared) {
      run.launch(emulator_fault, blocks, threads, FaultArgs{0, out}, shared);
      return 0;
    };
    CHECK_THROWS(launch({1}, 96, 0), "96 threads, expected whole warps, at most 64");
    CHECK_THROWS(launch({1}, 48, 0), "48 threads");
    CHECK_THROWS(launch({1, 65536}, 64, 0), "grid of 1, 65536, 1");
    CHECK_THROWS(launch({1}, 64, 200 * 1024), "the card has 166912");
    CHECK_EQ(launch({0}, 64, 0), 0);
  });
}
