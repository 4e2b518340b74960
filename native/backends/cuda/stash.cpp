#include "backends/cuda/stash.h"

#include <algorithm>
#include <cstring>

namespace lowrank::cuda {

PinnedStash::PinnedStash(CudaMemory& memory, Category category, int64_t bytes) : memory_(memory), bytes_(bytes) {
  if (bytes_ == 0) return;
  const Gpu::Entered entered(memory_.gpu());
  pinned_.emplace(memory_.gpu(), bytes_);
  std::memset(pinned_->data(), 0, static_cast<size_t>(bytes_));
  claim_ = Claim(category, bytes_, Place::pinned);
}

PinnedStash::~PinnedStash() {
  const Gpu::Entered entered(memory_.gpu(), true);
  memory_.gpu().settle();
  copies_.clear();
  pinned_.reset();
}

template <class Body>
void PinnedStash::each(int64_t offset, int64_t bytes, bool put, Body&& body) {
  for (const Copy& copy : copies_)
    if (copy.put == put && copy.begin < offset + bytes && offset < copy.end) body(*copy.done);
}

void PinnedStash::note(int64_t offset, int64_t bytes, bool put, std::shared_ptr<Gpu::Mark> done) {
  constexpr size_t kMany = 16;
  if (copies_.size() >= kMany) std::erase_if(copies_, [](const Copy& copy) { return copy.done->reached(); });
  copies_.push_back({offset, offset + bytes, put, std::move(done)});
}

void PinnedStash::put(int64_t offset, Ptr<std::byte> from, int64_t bytes) {
  if (bytes == 0) return;
  Gpu& gpu = memory_.gpu();
  const Gpu::Entered entered(gpu);
  gpu.order(Lane::out, Lane::kernels);
  memory_.transfers().order(Lane::out, span_of(from, bytes), false);
  each(offset, bytes, false, [](const Gpu::Mark& fetched) { fetched.hold_back(Lane::out); });
  gpu.check(gpu.driver().cuMemcpyDtoHAsync_v2(pinned_->data() + offset, from.address(), static_cast<size_t>(bytes),
                                              gpu.stream(Lane::out)),
            "cuMemcpyDtoHAsync");
  note(offset, bytes, true, memory_.transfers().add(Lane::out, span_of(from, bytes), false));
}

void PinnedStash::fetch(Ptr<std::byte> to, int64_t offset, int64_t bytes) {
  if (bytes == 0) return;
  Gpu& gpu = memory_.gpu();
  const Gpu::Entered entered(gpu);
  gpu.order(Lane::in, Lane::kernels);
  memory_.transfers().order(Lane::in, span_of(to, bytes), true);
  each(offset, bytes, true, [](const Gpu::Mark& put) { put.hold_back(Lane::in); });
  gpu.check(gpu.driver().cuMemcpyHtoDAsync_v2(to.address(), pinned_->data() + offset, static_cast<size_t>(bytes),
                                              gpu.stream(Lane::in)),
            "cuMemcpyHtoDAsync");
  note(offset, bytes, false, memory_.transfers().add(Lane::in, span_of(to, bytes), true));
}

void PinnedStash::settle() {
  const Gpu::Entered entered(memory_.gpu());
  memory_.gpu().finish(Lane::out);
}

void PinnedStash::read(int64_t offset, void* to, int64_t bytes) {
  if (bytes == 0) return;
  const Gpu::Entered entered(memory_.gpu());
  each(offset, bytes, true, [](const Gpu::Mark& put) { put.wait(); });
  std::copy_n(pinned_->data() + offset, bytes, static_cast<std::byte*>(to));
}

void PinnedStash::write(int64_t offset, const void* from, int64_t bytes) {
  if (bytes == 0) return;
  const Gpu::Entered entered(memory_.gpu());
  for (const bool put : {true, false}) each(offset, bytes, put, [](const Gpu::Mark& copy) { copy.wait(); });
  std::copy_n(static_cast<const std::byte*>(from), bytes, pinned_->data() + offset);
}

}  // namespace lowrank::cuda
