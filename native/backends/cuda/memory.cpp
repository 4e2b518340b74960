#include "backends/cuda/memory.h"

#include <algorithm>
#include <cstring>

#include "backends/cuda/stash.h"
#include "backends/file_stash.h"
#include "core/bytes.h"
#include "core/error.h"
#include "core/math.h"
#include "core/remarks.h"

namespace lowrank::cuda {
namespace {

constexpr int64_t kSlot = int64_t{4} << 20;

/// A stretch of the card's memory. It goes back once all that was queued is done.
class Owned final : public Allocation {
 public:
  Owned(CudaMemory& memory, std::optional<Category> category, int64_t bytes, bool zeroed)
      : memory_(memory), bytes_(bytes) {
    if (bytes == 0) return;
    const Gpu::Entered entered(memory_.gpu());
    at_ = memory_.take(category, bytes);
    try {
      if (zeroed) memory_.queue_zero(data(), bytes_);
    } catch (...) {
      memory_.gpu().driver().cuMemFree_v2(at_);
      throw;
    }
    if (category) claim_ = Claim(*category, bytes, Place::device);
  }
  ~Owned() override {
    if (at_ == 0) return;
    const Gpu::Entered entered(memory_.gpu(), true);
    memory_.gpu().settle();
    memory_.gpu().driver().cuMemFree_v2(at_);
  }
  Ptr<std::byte> data() const override { return Ptr<std::byte>(at_); }
  int64_t bytes() const override { return bytes_; }
  void clear() override {
    if (at_ == 0) return;
    const Gpu::Entered entered(memory_.gpu());
    memory_.queue_zero(data(), bytes_);
  }

 private:
  CudaMemory& memory_;
  const int64_t bytes_;
  CUdeviceptr at_ = 0;
  Claim claim_;
};

}  // namespace

Pinned::Pinned(Gpu& gpu, int64_t bytes, std::nothrow_t) : gpu_(gpu) {
  void* data = nullptr;
  const CUresult error = gpu_.driver().cuMemHostAlloc(&data, static_cast<size_t>(bytes), CU_MEMHOSTALLOC_PORTABLE);
  if (error == CUDA_ERROR_OUT_OF_MEMORY) return;
  gpu_.check(error, "cuMemHostAlloc");
  data_ = static_cast<std::byte*>(data);
}

Pinned::Pinned(Gpu& gpu, int64_t bytes) : Pinned(gpu, bytes, std::nothrow) {
  if (data_ == nullptr)
    fail("OUT_OF_MEMORY", "The system refused ", readable(bytes), " of pinned memory for ", gpu_.name(), ".");
}

CudaMemory::Ring::Ring(Gpu& gpu) : pinned(gpu, kSlot * 4) {
  for (std::unique_ptr<Gpu::Mark>& end : ends) end = std::make_unique<Gpu::Mark>(gpu);
}

CudaMemory::CudaMemory(Gpu& gpu) : gpu_(gpu), transfers_(gpu) {
  const Gpu::Entered entered(gpu_);
  ring_ = std::make_unique<Ring>(gpu_);
  landing_ = std::make_unique<Pinned>(gpu_, kSlot);
}

CudaMemory::~CudaMemory() {
  const Gpu::Entered entered(gpu_, true);
  gpu_.settle();
  ring_.reset();
  landing_.reset();
  transfers_.clear();
}

CUdeviceptr CudaMemory::take(std::optional<Category> category, int64_t bytes) {
  CUdeviceptr at = 0;
  const CUresult error = gpu_.driver().cuMemAlloc_v2(&at, static_cast<size_t>(bytes));
  if (error == CUDA_ERROR_OUT_OF_MEMORY) {
    const Category what = category.value_or(Category::workspace);
    size_t free = 0, total = 0;
    if (gpu_.driver().cuMemGetInfo_v2(&free, &total) != CUDA_SUCCESS) free = total = 0;
    fail("OUT_OF_MEMORY", gpu_.name(), " refused ", readable(bytes), " for ", lowrank::name_of(what), ": ",
         readable(static_cast<int64_t>(free)), " of its ", readable(static_cast<int64_t>(total)), " are free. ",
         remedy_of(what));
  }
  gpu_.check(error, "cuMemAlloc");
  return at;
}

std::unique_ptr<Allocation> CudaMemory::allocate(Category category, int64_t bytes) {
  return std::make_unique<Owned>(*this, category, bytes, true);
}
std::unique_ptr<Allocation> CudaMemory::uninitialized(Category category, int64_t bytes) {
  return std::make_unique<Owned>(*this, category, bytes, false);
}
std::unique_ptr<Allocation> CudaMemory::scratch(int64_t bytes) {
  return std::make_unique<Owned>(*this, std::nullopt, bytes, false);
}

void CudaMemory::queue_zero(Ptr<std::byte> to, int64_t bytes) {
  if (bytes == 0) return;
  transfers_.order(Lane::kernels, span_of(to, bytes), true);
  gpu_.check(gpu_.driver().cuMemsetD8Async(to.address(), 0, static_cast<size_t>(bytes), gpu_.stream(Lane::kernels)),
             "cuMemsetD8Async");
}

void CudaMemory::queue_zero(const Matrix& to, int64_t rows, int64_t cols) {
  if (rows == 0 || cols == 0) return;
  const int64_t pitch = to.ld * size_of(to.dtype), width = cols * size_of(to.dtype);
  transfers_.order(Lane::kernels, span_of(to.data, (rows - 1) * pitch + width), true);
  gpu_.check(
      gpu_.driver().cuMemsetD2D8Async(to.data.address(), static_cast<size_t>(pitch), 0, static_cast<size_t>(width),
                                      static_cast<size_t>(rows), gpu_.stream(Lane::kernels)),
      "cuMemsetD2D8Async");
}

void CudaMemory::queue_upload(Ptr<std::byte> to, const void* from, int64_t bytes) {
  if (bytes == 0) return;
  transfers_.order(Lane::kernels, span_of(to, bytes), true);
  const auto* next = static_cast<const std::byte*>(from);
  while (bytes > 0) {
    if (ring_->used == kSlot) {
      ring_->ends[ring_->slot]->record(Lane::kernels);
      ring_->slot = (ring_->slot + 1) % ring_->ends.size();
      ring_->ends[ring_->slot]->wait();  // not yet recorded: no wait
      ring_->used = 0;
    }
    const int64_t count = std::min(bytes, kSlot - ring_->used);
    std::byte* const slot = ring_->pinned.data() + static_cast<int64_t>(ring_->slot) * kSlot + ring_->used;
    std::copy_n(next, count, slot);
    gpu_.check(
        gpu_.driver().cuMemcpyHtoDAsync_v2(to.address(), slot, static_cast<size_t>(count), gpu_.stream(Lane::kernels)),
        "cuMemcpyHtoDAsync");
    ring_->used = std::min(kSlot, round_up(ring_->used + count, 64));
    next += count;
    to = to + count;
    bytes -= count;
  }
}

void CudaMemory::upload(Ptr<std::byte> to, const void* from, int64_t bytes) {
  const Gpu::Entered entered(gpu_);
  queue_upload(to, from, bytes);
}

void CudaMemory::download(void* to, Ptr<std::byte> from, int64_t bytes, std::string_view) {
  const Gpu::Entered entered(gpu_);
  transfers_.order(Lane::kernels, span_of(from, bytes), false);
  auto* next = static_cast<std::byte*>(to);
  for (; bytes > 0; bytes -= kSlot, next += kSlot, from = from + kSlot) {
    const int64_t count = std::min(bytes, kSlot);
    gpu_.check(gpu_.driver().cuMemcpyDtoHAsync_v2(landing_->data(), from.address(), static_cast<size_t>(count),
                                                  gpu_.stream(Lane::kernels)),
               "cuMemcpyDtoHAsync");
    gpu_.finish(Lane::kernels);
    std::copy_n(landing_->data(), count, next);
  }
}

void CudaMemory::copy(Ptr<std::byte> to, Ptr<std::byte> from, int64_t bytes) {
  if (bytes == 0) return;
  const Gpu::Entered entered(gpu_);
  transfers_.order(Lane::kernels, span_of(from, bytes), false);
  transfers_.order(Lane::kernels, span_of(to, bytes), true);
  gpu_.check(gpu_.driver().cuMemcpyDtoDAsync_v2(to.address(), from.address(), static_cast<size_t>(bytes),
                                                gpu_.stream(Lane::kernels)),
             "cuMemcpyDtoDAsync");
}

std::unique_ptr<Stash> CudaMemory::stash(Category category, const std::string& folder, int64_t bytes) {
  try {
    return std::make_unique<PinnedStash>(*this, category, bytes);
  } catch (const Error& error) {
    if (error.code() != std::string_view("OUT_OF_MEMORY") || folder.empty()) throw;
  }
  remark("The system refused " + readable(bytes) + " of pinned memory for " + lowrank::name_of(category) + " of " +
         gpu_.name() + "; they lie in a file in " + folder + " instead, which is slower.");
  return std::make_unique<FileStash>(*this, folder, bytes);
}

std::shared_ptr<std::byte> CudaMemory::pinned(Category category, int64_t bytes) {
  if (bytes == 0) return nullptr;
  const Gpu::Entered entered(gpu_);
  auto own = std::make_unique<Pinned>(gpu_, bytes, std::nothrow);
  if (own->data() == nullptr) return nullptr;
  std::byte* const data = own->data();
  struct Free {
    CudaMemory& memory;
    std::shared_ptr<Pinned> pinned;
    std::shared_ptr<Claim> claim;
    /// Copies from it may be queued when it goes.
    void operator()(std::byte*) {
      const Gpu::Entered leaving(memory.gpu(), true);
      memory.gpu().settle();
      claim.reset();
      pinned.reset();
    }
  };
  return {data, Free{*this, std::move(own), std::make_shared<Claim>(category, bytes, Place::pinned)}};
}

}  // namespace lowrank::cuda
