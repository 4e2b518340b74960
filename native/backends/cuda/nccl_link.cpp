#include "backends/cuda/nccl_link.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <utility>

#include "backends/cuda/parts.h"
#include "core/error.h"

namespace lowrank::cuda {
namespace {

constexpr int64_t kFloat = sizeof(float);

/// Asks until it is answered, at first at once, since most sums take less than a millisecond.
/// @return false where `given_up` came first
bool wait_until(const std::function<bool()>& done, const std::function<bool()>& given_up) {
  constexpr int kBusy = 200;
  for (int attempt = 0; !done(); ++attempt) {
    if (given_up()) return false;
    if (attempt < kBusy)
      std::this_thread::yield();
    else
      std::this_thread::sleep_for(std::chrono::microseconds(attempt < 2 * kBusy ? 20 : 200));
  }
  return true;
}

}  // namespace

NcclLink::NcclLink(std::shared_ptr<const Nccl> nccl, CudaMemory& memory, Launcher& launcher, const Place& place,
                   const std::function<bool()>& given_up)
    : nccl_(std::move(nccl)), memory_(memory), gpu_(memory.gpu()), launcher_(launcher), place_(place) {
  connect(given_up);
}

NcclLink::~NcclLink() {
  const Gpu::Entered entered(gpu_, true);
  gpu_.settle();
  end_.reset();
  if (comm_ != nullptr) nccl_->calls().ncclCommDestroy(comm_);
}

/// The library waits for all ranks, so it is called from a thread that can be left behind when one of them is lost.
void NcclLink::connect(const std::function<bool()>& given_up) {
  struct Attempt {
    std::atomic<bool> ended = false;
    int error = kNcclSuccess;
    NcclComm comm = nullptr;
  };
  const auto attempt = std::make_shared<Attempt>();
  std::thread([attempt, nccl = nccl_, place = place_, &gpu = gpu_] {
    gpu.make_current();
    attempt->error = nccl->calls().ncclCommInitRank(&attempt->comm, place.ranks, place.id, place.rank);
    attempt->ended = true;
  }).detach();
  if (!wait_until([&] { return attempt->ended.load(); }, given_up))
    fail("RANKS", "a rank was lost while ", library(), " connected GPUs");
  nccl_->check(attempt->error, "ncclCommInitRank");
  comm_ = attempt->comm;
}

void NcclLink::order(Ptr<float> at, int64_t count, bool writes) {
  memory_.transfers().order(Lane::kernels, span_of(at.as<std::byte>(), count * kFloat), writes);
}

void NcclLink::check(int error, const char* call) {
  if (error != kNcclSuccess) abort();
  nccl_->check(error, call);
}

/// Ends what is under way, so that the stream's other work can go on.
void NcclLink::abort() {
  if (comm_ != nullptr) nccl_->calls().ncclCommAbort(std::exchange(comm_, nullptr));
  gpu_.settle();
}

void NcclLink::gather(Ptr<float> own, Ptr<float> all, int64_t count) {
  const Gpu::Entered entered(gpu_);
  order(own, count, false);
  order(all, count * place_.ranks, true);
  check(nccl_->calls().ncclAllGather(device_pointer(own), device_pointer(all), static_cast<size_t>(count), kNcclFloat,
                                     comm_, gpu_.stream(Lane::kernels)),
        "ncclAllGather");
}

void NcclLink::exchange(Ptr<float> to, Ptr<float> from, int64_t count) {
  const Gpu::Entered entered(gpu_);
  order(to, count * place_.ranks, false);
  order(from, count * place_.ranks, true);
  const Nccl::Calls& calls = nccl_->calls();
  void* const stream = gpu_.stream(Lane::kernels);
  const auto size = static_cast<size_t>(count);
  check(calls.ncclGroupStart(), "ncclGroupStart");
  for (int rank = 0; rank < place_.ranks; ++rank) {
    check(calls.ncclSend(device_pointer(to + rank * count), size, kNcclFloat, rank, comm_, stream), "ncclSend");
    check(calls.ncclRecv(device_pointer(from + rank * count), size, kNcclFloat, rank, comm_, stream), "ncclRecv");
  }
  check(calls.ncclGroupEnd(), "ncclGroupEnd");
}

void NcclLink::add(Ptr<float> pieces, int64_t count, Ptr<float> to) {
  const Gpu::Entered entered(gpu_);
  order(pieces, count * place_.ranks, false);
  order(to, count, true);
  sum_of_parts(launcher_, count, place_.ranks, pieces, to);
}

void NcclLink::zero(Ptr<float> at, int64_t count) {
  const Gpu::Entered entered(gpu_);
  memory_.queue_zero(at.as<std::byte>(), count * kFloat);
}

bool NcclLink::finish(const std::function<bool()>& given_up) {
  {
    const Gpu::Entered entered(gpu_);
    if (end_ == nullptr) end_ = std::make_unique<Gpu::Mark>(gpu_);
    end_->record(Lane::kernels);
  }
  int error = kNcclSuccess;
  const bool waited = wait_until(
      [&] {
        const Gpu::Entered entered(gpu_);
        if (end_->reached()) return true;
        check(nccl_->calls().ncclCommGetAsyncError(comm_, &error), "ncclCommGetAsyncError");
        return error != kNcclSuccess && error != kNcclInProgress;
      },
      given_up);
  const Gpu::Entered entered(gpu_);
  if (!waited) {
    abort();
    return false;
  }
  if (error == kNcclRemoteError) {  // the rank that failed says why
    abort();
    fail("RANKS", library(), ": another rank failed while gradients were added up");
  }
  check(error, "a sum of gradients");
  gpu_.finish(Lane::kernels);
  return true;
}

}  // namespace lowrank::cuda
