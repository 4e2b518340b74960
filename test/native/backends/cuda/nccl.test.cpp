// GPUs that NCCL connects, by its stand-in: ranks are threads, each with a card of the stand-in driver.
#include "backends/cuda/nccl.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <mutex>

#include "backends/cuda/card_test.h"
#include "backends/cuda/device.h"
#include "comm/sum.h"
#include "comm/threads.h"
#include "core/error.h"
#include "runtime/link_sum.h"
#include "temporary_file.h"

namespace lowrank::test {
namespace {

/// Numbers of a rank whose sum depends on its order; some are negative zeros on all ranks.
std::vector<float> numbers(int rank, int64_t count) {
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i)
    values.push_back(i % 17 == 3 ? -0.0f
                                 : std::sin(static_cast<float>(i * 7 + rank * 13)) *
                                       std::pow(10.0f, static_cast<float>((i + rank) % 7)));
  return values;
}

/// A rank's card, connected with those of the others.
struct LinkedCard {
  LinkedCard(const StandinCard& card, Comm& comm)
      : device(card.driver(), cuda::probe().cards.at(static_cast<size_t>(comm.rank())), card.pack()) {
    std::string reason;
    const auto nccl = cuda::Nccl::open(reason);
    if (nccl == nullptr) throw std::runtime_error(reason);
    cuda::NcclId id{};
    if (comm.rank() == 0) id = nccl->new_id();
    std::vector<cuda::NcclId> all(static_cast<size_t>(comm.size()));
    comm.gather(&id, all.data(), sizeof id);
    link = device.link(nccl, {all[0], comm.rank(), comm.size()}, [] { return false; });
  }
  std::unique_ptr<Allocation> placed(const std::vector<float>& values) {
    auto made = device.memory().scratch(static_cast<int64_t>(values.size()) * 4);
    device.memory().upload(made->data(), values.data(), made->bytes());
    return made;
  }
  std::vector<float> read(const Allocation& from) {
    std::vector<float> values(static_cast<size_t>(from.bytes() / 4));
    device.memory().download(values.data(), from.data(), from.bytes(), "test");
    return values;
  }
  cuda::CudaDevice device;
  std::unique_ptr<Link> link;
};

StandinCard three_cards(const std::string& order = "late", const std::string& failure = "") {
  return StandinCard({{"LOWRANK_LIBNCCL", LOWRANK_NCCL_STANDIN},
                      {"LOWRANK_STANDIN_DEVICES", "80,90,80"},
                      {"LOWRANK_STANDIN_ORDER", order},
                      {"LOWRANK_STANDIN_NCCL", failure}});
}

bool have_same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST("sums of GPUs have the bits of those of the host, whatever the count, the room, and the order of streams") {
  std::mutex one;
  for (const char* order : {"late", "early", "random:1"})
    for (const int ranks : {1, 2, 3}) {
      StandinCard card = three_cards(order);
      on_ranks(ranks, [&](Comm& comm) {
        LinkedCard own(card, comm);
        for (const int64_t count : {int64_t{1}, int64_t{65}, int64_t{1999}})
          for (const int64_t piece : {int64_t{64}, int64_t{4096}}) {
            // Not every rank has the same room.
            const int64_t room = (2 * ranks + 1) * (piece + 7 * comm.rank()) * 4;
            std::vector<float> expected = numbers(comm.rank(), count);
            const auto values = own.placed(expected), around = own.device.memory().scratch(room);
            sum_over_ranks(comm, expected.data(), count);
            const bool summed = sum_over_link(comm, *own.link, values->data().as<float>(), count, *around);
            const std::vector<float> found = own.read(*values);
            const std::lock_guard lock(one);
            CHECK(summed);
            CHECK(have_same_bits(found, expected));
          }
      });
      CHECK_EQ(standin_leaks(), std::string());
    }
}

TEST("nothing is summed where one rank has no room") {
  std::mutex one;
  StandinCard card = three_cards();
  on_ranks(2, [&](Comm& comm) {
    LinkedCard own(card, comm);
    const std::vector<float> before = numbers(comm.rank(), 100);
    const auto values = own.placed(before), room = own.device.memory().scratch(comm.rank() == 0 ? 1 << 16 : 1024);
    const bool summed = sum_over_link(comm, *own.link, values->data().as<float>(), 100, *room);
    const std::vector<float> found = own.read(*values);
    const std::lock_guard lock(one);
    CHECK(!summed);
    CHECK(have_same_bits(found, before));
  });
}

TEST("a sum is given up when a rank is lost, and the card stays usable") {
  std::mutex one;
  StandinCard card = three_cards();
  on_ranks(2, [&](Comm& comm) {
    LinkedCard own(card, comm);
    const std::vector<float> before = numbers(0, 64);
    const auto values = own.placed(before), other = own.device.memory().scratch(2 * 64 * 4);
    int asked = 0;
    bool finished = true;
    if (comm.rank() == 0) {
      own.link->gather(values->data().as<float>(), other->data().as<float>(), 64);
      finished = own.link->finish([&] { return ++asked > 300; });
    }
    const std::vector<float> found = own.read(*values);
    const std::lock_guard lock(one);
    CHECK_EQ(finished, comm.rank() != 0);
    CHECK(have_same_bits(found, before));
  });
}

TEST("a rank whose library fails says where, and the others that another failed") {
  std::mutex one;
  for (const std::string call : {"ncclSend", "ncclAllGather"}) {
    StandinCard card = three_cards("late", call + ":1:1");
    on_ranks(2, [&](Comm& comm) {
      LinkedCard own(card, comm);
      const auto values = own.placed(numbers(comm.rank(), 100)), room = own.device.memory().scratch(1 << 16);
      std::string code, message;
      try {
        (void)sum_over_link(comm, *own.link, values->data().as<float>(), 100, *room);
      } catch (const Error& error) {
        code = error.code();
        message = error.what();
      }
      (void)own.read(*values);
      const std::lock_guard lock(one);
      CHECK_EQ(code, std::string(comm.rank() == 1 ? "DEVICE" : "RANKS"));
      CHECK(message.find(comm.rank() == 1 ? call + ": a planted system error (2)" : "another rank failed") !=
            std::string::npos);
    });
  }
}

TEST("NCCL is taken from where LOWRANK_LIBNCCL says, and from nowhere where it is off") {
  std::string reason;
  Environment environment{{"LOWRANK_LIBNCCL", LOWRANK_NCCL_STANDIN}, {"LOWRANK_NCCL", ""}};
  const auto library = cuda::Nccl::open(reason);
  REQUIRE(library != nullptr);
  CHECK_EQ(library->path(), std::string(LOWRANK_NCCL_STANDIN));
  CHECK_EQ(library->version(), std::string("2.27.5"));
  environment.set("LOWRANK_NCCL", "off");
  CHECK(cuda::Nccl::open(reason) == nullptr);
  CHECK_EQ(reason, std::string("LOWRANK_NCCL=off is set"));
  environment.set("LOWRANK_NCCL", "");
  environment.set("LOWRANK_LIBNCCL", "libm.so.6");
  CHECK(cuda::Nccl::open(reason) == nullptr);
  CHECK_EQ(reason, std::string("libm.so.6: it has no ncclGetVersion, as NCCL before 2.7"));
  environment.set("LOWRANK_LIBNCCL", "/nowhere/libnccl.so.2");
  CHECK(cuda::Nccl::open(reason) == nullptr);
  CHECK(reason.find("/nowhere/libnccl.so.2") != std::string::npos);
  // A driver that is none of the system's has no use for the system's library.
  environment.set("LOWRANK_LIBNCCL", "");
  environment.set("LOWRANK_LIBCUDA", "/nowhere/libcuda.so");
  CHECK(cuda::Nccl::open(reason) == nullptr);
  CHECK(reason.find("LOWRANK_LIBCUDA") != std::string::npos);
}

TEST("NCCL is found in Python environments, after the system's") {
  namespace fs = std::filesystem;
  const TemporaryFolder folder;
  const auto put = [&](const char* file) {
    const fs::path path = folder.path() / file;
    fs::create_directories(path.parent_path());
    fs::copy_file(LOWRANK_NCCL_STANDIN, path);
    return path.string();
  };
  const std::string wheel = put("venv/lib/python3.12/site-packages/nvidia/nccl/lib/libnccl.so.2");
  const std::string package = put("conda/lib/libnccl.so.2");
  const Environment environment{{"LOWRANK_LIBNCCL", ""},
                                {"LOWRANK_NCCL", ""},
                                {"LOWRANK_LIBCUDA", ""},
                                {"VIRTUAL_ENV", (folder.path() / "venv").string()},
                                {"CONDA_PREFIX", (folder.path() / "conda").string()}};
  CHECK(cuda::nccl_candidates() == (std::vector<std::string>{"libnccl.so.2", wheel, package}));
  std::string reason;
  const auto library = cuda::Nccl::open(reason);
  REQUIRE(library != nullptr);
  CHECK_EQ(reason, std::string());
  const bool is_ours = library->path() == wheel || library->path() == "libnccl.so.2";
  CHECK(is_ours);
}

}  // namespace
}  // namespace lowrank::test
