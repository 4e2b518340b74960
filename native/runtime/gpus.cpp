#include "runtime/gpus.h"

#include <cstdlib>

#include "core/error.h"

namespace lowrank {

void Gpus::set_pack(const std::string& path) {
  const std::lock_guard lock(mutex_);
  pack_ = path;
}

std::string Gpus::pack() const {
  const char* const named = std::getenv("LOWRANK_CUDA_PACK");
  return named == nullptr || *named == '\0' ? pack_ : named;
}

std::pair<std::string, std::vector<cuda::Pack::Stored>> Gpus::compressed(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const CudaInfo info = look();
  const std::string path = pack();
  std::vector<cuda::Pack::Stored> images = cuda::Pack(path).compressed(find(info, name).card.sm);
  std::erase_if(images, [this](const cuda::Pack::Stored& each) { return inflated_.contains(each.offset); });
  return {path, std::move(images)};
}

void Gpus::give(cuda::Inflated inflated) {
  const std::lock_guard lock(mutex_);
  inflated_.merge(inflated);
}

CudaInfo Gpus::look() {
  cuda::Probe probe = cuda::probe();
  driver_ = probe.driver;
  CudaInfo info{false, probe.version, std::move(probe.cards), std::move(probe.reasons)};
  if (driver_ == nullptr) return info;
  try {
    const cuda::Pack kernels(pack());
    for (cuda::FoundCard& found : info.cards) {
      if (!found.reason.empty()) continue;
      if (kernels.runs_on(found.card.sm)) {
        info.available = true;
        continue;
      }
      found.reason = pack() + " has no kernels for compute capability " + std::to_string(found.card.sm / 10) + "." +
                     std::to_string(found.card.sm % 10);
      info.reasons.push_back("cuda:" + std::to_string(found.number) + " (" + found.name + "): " + found.reason);
    }
  } catch (const Error& error) {
    const std::string reason = std::string("there are no CUDA kernels: ") + error.what();
    for (cuda::FoundCard& found : info.cards)
      if (found.reason.empty()) found.reason = reason;
    info.reasons.push_back(reason);
  }
  return info;
}

CudaInfo Gpus::info() {
  const std::lock_guard lock(mutex_);
  return look();
}

const cuda::FoundCard& Gpus::find(const CudaInfo& info, const std::string& name) const {
  for (const cuda::FoundCard& found : info.cards)
    if (name == "cuda:" + std::to_string(found.number)) {
      if (found.reason.empty()) return found;
      fail("DEVICE", name, " (", found.name, ") cannot be used: ", found.reason);
    }
  std::string why;
  for (const std::string& reason : info.reasons) why += (why.empty() ? "" : "; ") + reason;
  if (why.empty()) why = "the cards here are cuda:0 to cuda:" + std::to_string(info.cards.size() - 1);
  fail("DEVICE", name, " is not there: ", why);
}

Device& Gpus::open(const std::string& name) {
  const std::lock_guard lock(mutex_);
  return opened(name);
}

cuda::CudaDevice& Gpus::opened(const std::string& name) {
  std::unique_ptr<cuda::CudaDevice>& device = open_[name];
  if (device == nullptr) {
    const CudaInfo info = look();
    device = std::make_unique<cuda::CudaDevice>(driver_, find(info, name), pack(), inflated_);
  }
  return *device;
}

std::unique_ptr<Link> Gpus::link(const std::string& name, const cuda::NcclLink::Place& place,
                                 const std::function<bool()>& given_up) {
  std::string reason;
  auto nccl = cuda::Nccl::open(reason);
  if (nccl == nullptr) fail("DEVICE", "there is no NCCL to connect GPUs with: ", reason);
  cuda::CudaDevice* device;
  {
    const std::lock_guard lock(mutex_);
    device = &opened(name);
  }
  return device->link(std::move(nccl), place, given_up);
}

Device* Gpus::with(const Memory& memory) {
  const std::lock_guard lock(mutex_);
  for (const auto& [name, device] : open_)
    if (device != nullptr && &device->memory() == &memory) return device.get();
  return nullptr;
}

cuda::Card Gpus::card(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const CudaInfo info = look();
  return find(info, name).card;
}

}  // namespace lowrank
