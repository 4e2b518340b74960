// A card's memory and its stash on the stand-in driver, under every order of its streams.
#include "backends/cuda/memory.h"

#include <algorithm>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <functional>
#include <numeric>

#include <sys/wait.h>
#include <unistd.h>

#include "card_test.h"
#include "core/error.h"
#include "core/remarks.h"
#include "device/host_view.h"

namespace lowrank::test {
namespace {

std::vector<float> counted_floats(int64_t count, float first) {
  std::vector<float> values(static_cast<size_t>(count));
  std::iota(values.begin(), values.end(), first);
  return values;
}

TEST("memory of a card is zero, counted by category and place, and goes back") {
  StandinCard card;
  const int64_t before = allocated_bytes(Category::adapters, Place::device);
  {
    UsedCard used(card);
    const auto one = used.memory.allocate(Category::adapters, 4004);
    const auto none = used.memory.allocate(Category::adapters, 0);
    CHECK_EQ(one->bytes(), 4004);
    CHECK(one->data() && !none->data());
    CHECK_EQ(allocated_bytes(Category::adapters, Place::device) - before, 4004);
    CHECK_EQ(allocated_bytes(Category::adapters, Place::host), 0);
    CHECK(used.read(one->data(), 1001) == std::vector<float>(1001, 0.0f));
    used.add(one->data(), 1001, 3);
    CHECK(used.read(one->data(), 1001) == std::vector<float>(1001, 3.0f));
    one->clear();
    CHECK(used.read(one->data(), 1001) == std::vector<float>(1001, 0.0f));
  }
  CHECK_EQ(allocated_bytes(Category::adapters, Place::device), before);
  CHECK_EQ(standin_leaks(), std::string());
}

TEST("uploads keep the host's bytes and their order, beyond the room that they pass through") {
  for (const char* const order : kOrders) {
    StandinCard card({{"LOWRANK_STANDIN_ORDER", order}});
    UsedCard used(card);
    {
      const int64_t count = 6'000'001;  // 24 MB, more than the ring has
      const auto at = used.memory.allocate(Category::workspace, count * 4);
      std::vector<float> values = counted_floats(count, 1);
      used.memory.upload(at->data(), values.data(), count * 4);
      std::fill(values.begin(), values.end(), -1.0f);  // the host's bytes may change
      used.add(at->data(), 8, 0.5f);
      used.write(at->data() + 16, {7, 8});
      used.add(at->data(), 8, 1);
      const std::vector<float> read = used.read(at->data(), count);
      CHECK(std::vector<float>(read.begin(), read.begin() + 9) ==
            (std::vector<float>{2.5, 3.5, 4.5, 5.5, 8, 9, 8.5, 9.5, 9}));
      CHECK_EQ(read.back(), static_cast<float>(count));
    }
    const auto at = used.memory.allocate(Category::workspace, 4000);
    for (int i = 0; i < 300'000; ++i) {  // 64 bytes of the ring each
      const float value = static_cast<float>(i);
      used.memory.upload(at->data() + 4 * (i % 1000), &value, 4);
    }
    CHECK(used.read(at->data(), 1000) == counted_floats(1000, 299'000));
  }
}

TEST("copies on the card and views of the host are in order with kernels") {
  for (const char* const order : kOrders) {
    StandinCard card({{"LOWRANK_STANDIN_ORDER", order}});
    UsedCard used(card);
    const auto a = used.memory.allocate(Category::workspace, 400), b = used.memory.allocate(Category::workspace, 400);
    used.write(a->data(), std::vector<float>(100, 1.0f));
    used.memory.copy(b->data(), a->data(), 400);
    used.add(a->data(), 100, 1);
    CHECK(used.read(b->data(), 100) == std::vector<float>(100, 1.0f));
    {
      const HostView<float> view(used.memory, a->data().as<float>(), 100, "test");
      CHECK_EQ(view[99], 2.0f);
      view[99] = 9;
    }
    used.add(a->data(), 100, 1);
    CHECK_EQ(used.read(a->data(), 100)[99], 10.0f);
  }
}

/// A pass that puts two values away, overwrites their memory, and brings them back.
std::vector<float> stash_round(UsedCard& used) {
  const int64_t count = 5000, bytes = count * 4;
  const auto a = used.memory.allocate(Category::activations, bytes),
             b = used.memory.allocate(Category::activations, bytes);
  const auto stash = used.memory.stash(Category::activations, "", 2 * bytes);
  used.write(a->data(), counted_floats(count, 1));
  used.add(a->data(), count, 1);
  stash->put(0, a->data(), bytes);
  used.add(a->data(), count, 1);  // waits for the copy
  stash->put(bytes, a->data(), bytes);
  used.add(b->data(), count, 100);
  used.add(a->data(), count, 1000);
  stash->fetch(b->data(), 0, bytes);
  used.add(b->data(), count, 0.5f);
  stash->put(0, b->data(), bytes);
  stash->fetch(a->data(), bytes, bytes);
  stash->fetch(b->data(), bytes, bytes);
  stash->put(bytes, a->data(), bytes);
  stash->will_fetch(0, bytes);
  stash->fetch(a->data(), 0, bytes);
  std::vector<float> result = used.read(a->data(), count);
  const std::vector<float> other = used.read(b->data(), count);
  result.insert(result.end(), other.begin(), other.end());
  return result;
}

TEST("what was put away comes back as it was, whichever copies run early or late") {
  const int64_t count = 5000;
  std::vector<float> expected = counted_floats(count, 2.5f);
  const std::vector<float> second = counted_floats(count, 3);
  expected.insert(expected.end(), second.begin(), second.end());
  for (const char* const order : kOrders) {
    StandinCard card({{"LOWRANK_STANDIN_ORDER", order}});
    {
      UsedCard used(card);
      CHECK(stash_round(used) == expected);
    }
    CHECK_EQ(standin_leaks(), std::string());
  }
}

TEST("a fetch waits for the put of the same bytes, also where no kernel comes between them") {
  for (const char* const order : kOrders) {
    StandinCard card({{"LOWRANK_STANDIN_ORDER", order}});
    UsedCard used(card);
    const auto a = used.memory.allocate(Category::activations, 4000),
               b = used.memory.allocate(Category::activations, 4000);
    const auto stash = used.memory.stash(Category::activations, "", 8000);
    used.write(a->data(), counted_floats(1000, 1));
    stash->put(4000, a->data(), 4000);
    stash->fetch(b->data(), 4000, 4000);
    CHECK(used.read(b->data(), 1000) == counted_floats(1000, 1));
  }
}

TEST("memory goes back only once the kernels and copies that use it are done") {
  for (const char* const order : kOrders) {
    StandinCard card({{"LOWRANK_STANDIN_ORDER", order}});
    {
      UsedCard used(card);
      const auto kept = used.memory.allocate(Category::workspace, 4000);
      auto gone = used.memory.allocate(Category::workspace, 4000);
      used.add(gone->data(), 1000, 2);
      gone.reset();  // while a kernel writes it
      gone = used.memory.allocate(Category::workspace, 4000);
      used.add(gone->data(), 1000, 3);
      used.memory.copy(kept->data(), gone->data(), 4000);
      gone.reset();  // while it is copied
      CHECK(used.read(kept->data(), 1000) == std::vector<float>(1000, 3.0f));
      auto stash = used.memory.stash(Category::activations, "", 4000);
      stash->put(0, kept->data(), 4000);
      stash->fetch(kept->data(), 0, 4000);
      stash.reset();  // while it is written and read
      std::shared_ptr<std::byte> pinned = used.memory.pinned(Category::paged_weights, 4000);
      std::fill_n(reinterpret_cast<float*>(pinned.get()), 1000, 5.0f);
      {
        const cuda::Gpu::Entered entered(used.gpu);
        CHECK_EQ(card.driver()->cuMemcpyHtoDAsync_v2(kept->data().address(), pinned.get(), 4000,
                                                     used.gpu.stream(cuda::Lane::kernels)),
                 0);
      }
      pinned.reset();  // while it is read
      CHECK(used.read(kept->data(), 1000) == std::vector<float>(1000, 5.0f));
    }
    CHECK_EQ(standin_leaks(), std::string());
  }
}

TEST("the host reads and writes a stash after the copies that it meets") {
  for (const char* const order : kOrders) {
    StandinCard card({{"LOWRANK_STANDIN_ORDER", order}});
    UsedCard used(card);
    const auto a = used.memory.allocate(Category::optimizer, 4000);
    const auto stash = used.memory.stash(Category::activations, "", 8000);
    std::vector<float> host(1000, -1.0f);
    stash->read(4000, host.data(), 4000);
    CHECK(host == std::vector<float>(1000, 0.0f));
    used.add(a->data(), 1000, 2);
    stash->put(0, a->data(), 4000);
    stash->read(0, host.data(), 4000);
    CHECK(host == std::vector<float>(1000, 2.0f));
    stash->fetch(a->data(), 0, 4000);
    host.assign(1000, 7);
    stash->write(0, host.data(), 4000);
    CHECK(used.read(a->data(), 1000) == std::vector<float>(1000, 2.0f));
    stash->fetch(a->data(), 0, 4000);
    used.add(a->data(), 1000, 1);
    stash->put(4000, a->data(), 4000);
    stash->settle();
    stash->read(4000, host.data(), 4000);
    CHECK(host == std::vector<float>(1000, 8.0f));
  }
}

TEST("where pinned memory is refused a stash lies in a file, with the same bytes, and that is said once") {
  StandinCard card({{"LOWRANK_STANDIN_PINNED", std::to_string(21'000 + (20 << 20))}});
  UsedCard used(card);
  const std::string folder = std::filesystem::temp_directory_path().string();
  const int64_t before = allocated_bytes(Category::activations, Place::pinned);
  const auto first = used.memory.stash(Category::activations, folder, 20'000);
  CHECK_EQ(allocated_bytes(Category::activations, Place::pinned) - before, 20'000);
  (void)take_remarks();
  for (int i = 0; i < 2; ++i) {
    const auto stash = used.memory.stash(Category::activations, folder, 40'000);
    CHECK_EQ(allocated_bytes(Category::activations, Place::pinned) - before, 20'000);
    const auto a = used.memory.allocate(Category::activations, 20'000);
    used.write(a->data(), counted_floats(5000, 1));
    used.add(a->data(), 5000, 1);
    stash->put(20'000, a->data(), 20'000);
    used.add(a->data(), 5000, 1);
    stash->fetch(a->data(), 20'000, 20'000);
    used.add(a->data(), 5000, 0.5f);
    CHECK(used.read(a->data(), 5000) == counted_floats(5000, 2.5f));
    std::vector<float> host(5000);
    stash->read(20'000, host.data(), 20'000);
    CHECK(host == counted_floats(5000, 2));
    stash->write(0, host.data(), 20'000);
    stash->settle();
    stash->fetch(a->data(), 0, 20'000);
    CHECK(used.read(a->data(), 5000) == counted_floats(5000, 2));
    const std::vector<std::string> said = take_remarks();
    CHECK_EQ(said.size(), i == 0 ? 1u : 0u);
    if (i == 0)
      CHECK_EQ(said.front(),
               "The system refused 39.1 KiB of pinned memory for activations of cuda:0; they lie in a file in " +
                   folder + " instead, which is slower.");
  }
  CHECK(used.memory.pinned(Category::paged_weights, 40'000) == nullptr);
  CHECK(used.memory.pinned(Category::paged_weights, 100) != nullptr);
  CHECK_THROWS(used.memory.stash(Category::activations, "", 40'000), "The system refused 39.1 KiB of pinned memory");
}

TEST("memory that a card does not have is refused with what fits, and the rest goes on") {
  StandinCard card({{"LOWRANK_STANDIN_MEMORY", "100000"}});
  UsedCard used(card);
  const auto some = used.memory.allocate(Category::adapters, 40000);
  try {
    (void)used.memory.allocate(Category::activations, 60001);
    CHECK(false);
  } catch (const Error& error) {
    CHECK_EQ(std::string(error.code()), std::string("OUT_OF_MEMORY"));
    CHECK_EQ(std::string(error.what()),
             std::string(
                 "cuda:0 refused 58.6 KiB for activations: 58.6 KiB of its 97.7 KiB are free. Lower max_seq_length or "
                 "per_device_train_batch_size; `lowrank plan CONFIG --fit SIZE` finds settings that fit."));
  }
  used.add(some->data(), 10000, 1);
  CHECK_EQ(used.read(some->data(), 10000).back(), 1.0f);
  (void)used.memory.allocate(Category::activations, 60000);
}

/// Code and message of the error that a body ends in.
std::pair<std::string, std::string> error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  return {};
}

TEST("a failed kernel ends the card: every call after it throws the same error, which names the kernel") {
  StandinCard card({{"LOWRANK_STANDIN_FAULT", "standin_add:3"}});
  std::string first;
  {
    UsedCard used(card);
    const auto at = used.memory.allocate(Category::workspace, 400);
    const auto pass = [&] {
      for (int i = 0; i < 5; ++i) used.add(at->data(), 100, 1);
      used.read(at->data(), 100);
    };
    const auto [code, message] = error_of(pass);
    CHECK_EQ(code, std::string("DEVICE"));
    CHECK(message.find(
              "cuda:0 failed: cuStreamSynchronize: CUDA_ERROR_LAUNCH_FAILED (719), after 5 kernels were launched, the "
              "first standin_add and the last standin_add; LOWRANK_CUDA_BLOCKING=1 names") == 0);
    CHECK_EQ(error_of(pass).second, message);
    CHECK_EQ(error_of([&] { (void)used.memory.allocate(Category::workspace, 4); }).second, message);
    CHECK_EQ(error_of([&] { (void)used.memory.stash(Category::activations, "", 4); }).second, message);
  }
  CHECK_EQ(standin_leaks(), std::string());
  card.environment().set("LOWRANK_CUDA_BLOCKING", "1");
  card.environment().set("LOWRANK_STANDIN_FAULT", "standin_copy:1");
  (void)cuda::probe();
  UsedCard used(card);
  const auto at = used.memory.allocate(Category::workspace, 400);
  const auto [code, message] = error_of([&] {
    used.add(at->data(), 100, 1);
    const cuda::Gpu::Entered entered(used.gpu);
    const standin::CopyArgs args{nullptr, nullptr, 0};
    used.gpu.launch("standin_copy", {}, 32, &args, sizeof args, 0);
  });
  CHECK_EQ(code, std::string("DEVICE"));
  CHECK(message.find("after the kernel standin_copy was launched") != std::string::npos);
}

TEST("every call of the driver that fails, at any use, ends in one clear error and leaves nothing behind") {
#define LOWRANK_TEST_NAME(name, parameters) #name,
  const std::vector<std::string> calls = {LOWRANK_DRIVER_CALLS(LOWRANK_TEST_NAME)};
  int failed = 0;
  for (const char* const order : {"late", "early"}) {
    for (const std::string& call : calls) {
      for (int use = 1; use <= 12; ++use) {
        StandinCard card({{"LOWRANK_STANDIN_ORDER", order}});
        // Read when the driver is looked at; from here on calls count.
        card.environment().set("LOWRANK_STANDIN_FAIL", call + ":" + std::to_string(use));
        const cuda::Probe probe = cuda::probe();
        const auto [code, message] = error_of([&] {
          if (probe.usable() == nullptr) fail("DEVICE", probe.reasons.at(0));
          cuda::Gpu gpu(probe.driver, *probe.usable(), card.pack());
          cuda::CudaMemory memory(gpu);
          const auto a = memory.allocate(Category::workspace, 400), b = memory.allocate(Category::workspace, 400);
          const auto stash = memory.stash(Category::activations, "", 400);
          const std::vector<float> ones(100, 1.0f);
          std::vector<float> read(100);
          for (int i = 0; i < 3; ++i) {
            memory.upload(a->data(), ones.data(), 400);
            for (int k = 0; k < 70; ++k) {
              const cuda::Gpu::Entered entered(gpu);
              const standin::AddArgs args{reinterpret_cast<float*>(a->data().address()), 100, 1};
              gpu.launch("standin_add", {}, 32, &args, sizeof args, 64 * 1024);
            }
            memory.copy(b->data(), a->data(), 400);
            stash->put(0, b->data(), 400);
            stash->fetch(a->data(), 0, 400);
            stash->settle();
            memory.download(read.data(), a->data(), 400, "test");
            const auto scratch = memory.scratch(4);
          }
          CHECK(read == std::vector<float>(100, 71.0f));
        });
        CHECK(code.empty() || code == "DEVICE" || code == "OUT_OF_MEMORY");
        CHECK_EQ(code.empty(), message.empty());
        failed += !code.empty();
        const bool used_less = code.empty();
        if (standin_leaks() != "")
          report(__FILE__, __LINE__, call + " at use " + std::to_string(use) + ": " + standin_leaks());
        if (used_less) break;
      }
    }
  }
  CHECK_LE(150, failed);
}

// Faults that the stand-in driver has to find; without them nothing above says much.

/// The signal that ends a process of its own which runs a body; 0 where it ends by itself.
int signal_of(const std::function<void()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGSEGV, SIG_DFL);
    body();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST("planted: a host that follows a device pointer is stopped") {
  StandinCard card;
  UsedCard used(card);
  const auto at = used.memory.allocate(Category::workspace, 400);
  CHECK(used.read(at->data(), 100) == std::vector<float>(100, 0.0f));
  const int ended = signal_of([&] {
    volatile float* const followed = reinterpret_cast<volatile float*>(at->data().address());
    *followed = 1;
  });
#if defined(__SANITIZE_ADDRESS__)
  (void)ended;  // it reports and exits
#else
  CHECK_EQ(ended, SIGSEGV);
#endif
  CHECK_EQ(signal_of([] {}), 0);
}

TEST("planted: a result that is read before it is finished is not there yet") {
  StandinCard card;
  UsedCard used(card);
  const auto at = used.memory.allocate(Category::workspace, 400);
  const cuda::Gpu::Entered entered(used.gpu);
  const cuda::Pinned pinned(used.gpu, 400);
  auto* const result = reinterpret_cast<float*>(pinned.data());
  const auto stream = used.gpu.stream(cuda::Lane::kernels);
  CHECK_EQ(card.driver()->cuMemcpyDtoHAsync_v2(result, at->data().address(), 400, stream), 0);
  CHECK(std::isnan(result[0]));
  CHECK_EQ(card.driver()->cuStreamSynchronize(stream), 0);
  CHECK_EQ(result[0], 0.0f);
}

TEST("planted: memory that is freed while a copy or a kernel is queued is found") {
  for (const bool kernel : {false, true}) {
    StandinCard card;
    UsedCard used(card);
    const auto at = used.memory.allocate(Category::workspace, 400);
    const cuda::Driver& driver = *card.driver();
    const cuda::Gpu::Entered entered(used.gpu);
    cuda::CUdeviceptr early = 0;
    CHECK_EQ(driver.cuMemAlloc_v2(&early, 400), 0);
    const auto stream = used.gpu.stream(cuda::Lane::kernels);
    if (kernel) {
      const standin::AddArgs args{reinterpret_cast<float*>(early), 100, 1};
      used.gpu.launch("standin_add", {}, 32, &args, sizeof args, 0);
    } else {
      CHECK_EQ(driver.cuMemcpyDtoDAsync_v2(at->data().address(), early, 400, stream), 0);
    }
    CHECK_EQ(driver.cuMemFree_v2(early), 0);
    CHECK_EQ(driver.cuStreamSynchronize(stream), cuda::CUDA_ERROR_ILLEGAL_ADDRESS);
  }
}

TEST("planted: a copy beside the kernels that nobody orders is seen by one schedule or the other") {
  int wrong = 0;
  for (const char* const order : {"late", "early"}) {
    StandinCard card({{"LOWRANK_STANDIN_ORDER", order}});
    UsedCard used(card);
    const auto at = used.memory.allocate(Category::workspace, 400);
    used.add(at->data(), 100, 1);
    {
      const cuda::Gpu::Entered entered(used.gpu);
      const cuda::Pinned pinned(used.gpu, 400);
      const auto out = used.gpu.stream(cuda::Lane::out);
      CHECK_EQ(card.driver()->cuMemcpyDtoHAsync_v2(pinned.data(), at->data().address(), 400, out), 0);
      const standin::AddArgs args{reinterpret_cast<float*>(at->data().address()), 100, 1};
      used.gpu.launch("standin_add", {}, 32, &args, sizeof args, 0);
      used.gpu.finish(cuda::Lane::kernels);
      CHECK_EQ(card.driver()->cuStreamSynchronize(out), 0);
      wrong += *reinterpret_cast<float*>(pinned.data()) != 1;
    }
  }
  CHECK_EQ(wrong, 2);
}

TEST("planted: limits of launches and writes behind an allocation are held") {
  StandinCard card;
  {
    UsedCard used(card);
    const auto at = used.memory.allocate(Category::workspace, 400);
    const cuda::Gpu::Entered entered(used.gpu);
    const standin::AddArgs args{reinterpret_cast<float*>(at->data().address()), 101, 1};
    CHECK_EQ(error_of([&] { used.gpu.launch("standin_add", {1, 65536, 1}, 32, &args, sizeof args, 0); }).first,
             std::string("INTERNAL"));
    used.gpu.launch("standin_add", {}, 32, &args, sizeof args, 0);
    used.gpu.finish(cuda::Lane::kernels);
  }
  CHECK_EQ(standin_leaks(), std::string("something was written behind the end of an allocation of 400 bytes; "));
  UsedCard used(card);
  const cuda::Gpu::Entered entered(used.gpu);
  const standin::AddArgs args{};
  const auto [code, message] = error_of([&] { used.gpu.launch("standin_add", {}, 512, &args, sizeof args, 0); });
  CHECK_EQ(code, std::string("DEVICE"));
  CHECK(message.find(
            "the kernel standin_add was not launched: cuLaunchKernel: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES (701)") !=
        std::string::npos);
}

}  // namespace
}  // namespace lowrank::test
