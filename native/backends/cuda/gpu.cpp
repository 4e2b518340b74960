#include "backends/cuda/gpu.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace lowrank::cuda {
namespace {

/// Kernels between two waits of the host for the card, at most: twice as many are queued, and a job that is canceled
/// ends after those.
constexpr int64_t kPace = 64;

/// Sessions take turns; more graphs than this are not kept.
constexpr size_t kMostRepeats = 4;

bool is(const char* variable, const char* value) { return variable != nullptr && std::strcmp(variable, value) == 0; }

}  // namespace

Gpu::Gpu(std::shared_ptr<const Driver> driver, const FoundCard& found, const std::string& pack, Inflated inflated)
    : driver_(std::move(driver)),
      found_(found),
      blocking_(is(std::getenv("LOWRANK_CUDA_BLOCKING"), "1")),
      uses_graphs_(!blocking_ && !is(std::getenv("LOWRANK_CUDA_GRAPHS"), "0")),
      pack_(pack, std::move(inflated)) {
  if (!pack_.runs_on(card().sm))
    fail("DEVICE", name(), ": ", pack, " has no kernels for compute capability ", card().sm / 10, ".", card().sm % 10);
  try {
    check(driver_->cuDeviceGet(&device_, found_.number), "cuDeviceGet");
    check(driver_->cuDevicePrimaryCtxRetain(&context_, device_), "cuDevicePrimaryCtxRetain");
    check(driver_->cuCtxSetCurrent(context_), "cuCtxSetCurrent");
    for (CUstream& stream : streams_) check(driver_->cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
    modules_.resize(static_cast<size_t>(pack_.modules()));
  } catch (...) {
    release();
    throw;
  }
}

Gpu::~Gpu() {
  driver_->cuCtxSetCurrent(context_);  // no other thread is left that could set it
  settle();
  release();
}

void Gpu::release() noexcept {
  for (std::unique_ptr<Mark>& pace : paces_) pace.reset();
  for (const Repeat& repeat : repeats_) destroy(repeat.graph);
  for (const CUevent event : spare_events_) driver_->cuEventDestroy_v2(event);
  for (const CUmodule module : modules_)
    if (module != nullptr) driver_->cuModuleUnload(module);
  for (const CUstream stream : streams_)
    if (stream != nullptr) driver_->cuStreamDestroy_v2(stream);
  if (context_ == nullptr) return;
  driver_->cuCtxSetCurrent(nullptr);
  driver_->cuDevicePrimaryCtxRelease_v2(device_);
}

Gpu::Entered::Entered(Gpu& gpu, bool gives_back) : lock_(gpu.mutex_) {
  if (!gives_back && !gpu.failure_.empty()) throw Error("DEVICE", gpu.failure_);
  const CUresult error = gpu.driver_->cuCtxSetCurrent(gpu.context_);
  if (!gives_back) gpu.check(error, "cuCtxSetCurrent");
}

void Gpu::check(CUresult error, const char* call) {
  if (error != CUDA_SUCCESS) broken(std::string(call) + ": " + driver_->name_of(error));
}

void Gpu::broken(const std::string& what) {
  if (failure_.empty()) {
    failure_ = name() + " failed: " + what;
    if (queued_.size() == 1) failure_ += std::string(", after the kernel ") + queued_.front() + " was launched";
    if (queued_.size() > 1)
      failure_ += ", after " + std::to_string(queued_.size()) + " kernels were launched, the first " + queued_.front() +
                  " and the last " + queued_.back() + "; LOWRANK_CUDA_BLOCKING=1 names the one that fails";
    failure_ += ". Nothing more runs on this device until the process is started again.";
  }
  throw Error("DEVICE", failure_);
}

void Gpu::finish(Lane lane) {
  check(driver_->cuStreamSynchronize(stream(lane)), "cuStreamSynchronize");
  if (lane == Lane::kernels) queued_.clear();
}

void Gpu::settle() noexcept {
  try {
    queue_waiting();
  } catch (const Error&) {  // it stays, and the next call throws it
  }
  for (const CUstream stream : streams_)
    if (stream != nullptr) driver_->cuStreamSynchronize(stream);
}

Gpu::Function& Gpu::function(const char* kernel) {
  if (const auto found = functions_.find(kernel); found != functions_.end()) return found->second;
  const int number = pack_.module_of(kernel);
  if (number < 0) fail("DEVICE", name(), ": the kernel pack has no kernel ", kernel);
  CUmodule& module = modules_[static_cast<size_t>(number)];
  if (module == nullptr) {
    const Pack::Image image = pack_.image(number, card().sm);
    const CUresult error = driver_->cuModuleLoadData(&module, image.bytes.data());
    if (error == CUDA_ERROR_UNSUPPORTED_PTX_VERSION)
      broken("the driver is too old for the PTX of " + pack_.name_of(number) + ": " + driver_->name_of(error));
    check(error, "cuModuleLoadData");
  }
  Function made;
  const CUresult error = driver_->cuModuleGetFunction(&made.handle, module, kernel);
  if (error != CUDA_SUCCESS)
    broken("the kernel " + std::string(kernel) + ": cuModuleGetFunction: " + driver_->name_of(error));
  return functions_.emplace(kernel, made).first->second;
}

void Gpu::launch(const char* kernel, Grid blocks, int threads, const void* args, int64_t args_bytes,
                 int64_t shared_bytes) {
  if (blocks.x > kMostBlocks || blocks.y > kMostBlocksAcross || blocks.z > kMostBlocksAcross)
    fail("INTERNAL", "the kernel ", kernel, " is launched with ", blocks.x, " x ", blocks.y, " x ", blocks.z,
         " blocks, more than a card takes");
  Function& found = function(kernel);
  if (shared_bytes > found.shared_bytes) {
    check(driver_->cuFuncSetAttribute(found.handle, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                      static_cast<int>(shared_bytes)),
          "cuFuncSetAttribute");
    found.shared_bytes = shared_bytes;
  }
  const Launches::Launch launch{kernel, found.handle, blocks, threads, shared_bytes};
  if (waits_)
    waiting_.add(launch, args, args_bytes);
  else
    queue_in_pace(launch, args);
}

CUresult Gpu::queue(const Launches::Launch& launch, const void* args) {
  void* parameters[] = {const_cast<void*>(args)};
  const auto& [x, y, z] = launch.blocks;
  return driver_->cuLaunchKernel(launch.function, static_cast<unsigned>(x), static_cast<unsigned>(y),
                                 static_cast<unsigned>(z), static_cast<unsigned>(launch.threads), 1, 1,
                                 static_cast<unsigned>(launch.shared_bytes),
                                 streams_[static_cast<size_t>(Lane::kernels)], parameters, nullptr);
}

void Gpu::not_launched(const char* kernel, CUresult error) {
  broken("the kernel " + std::string(kernel) + " was not launched: cuLaunchKernel: " + driver_->name_of(error));
}

void Gpu::queue_in_pace(const Launches::Launch& launch, const void* args) {
  if (const CUresult error = queue(launch, args); error != CUDA_SUCCESS) not_launched(launch.kernel, error);
  queued_.push_back(launch.kernel);
  if (blocking_) return finish(Lane::kernels);
  if (++launches_ % kPace != 0) return;
  // Waits for the previous mark before setting this one, so that at most two paces of work are queued.
  std::unique_ptr<Mark>& pace = paces_[static_cast<size_t>(launches_ / kPace % 2)];
  const std::unique_ptr<Mark>& last = paces_[static_cast<size_t>((launches_ / kPace + 1) % 2)];
  if (last != nullptr) {
    last->wait();
    if (queued_.size() > kPace) queued_.erase(queued_.begin(), queued_.end() - kPace);
  }
  if (pace == nullptr) pace = std::make_unique<Mark>(*this);
  pace->record(Lane::kernels);
}

void Gpu::queue_waiting() {
  if (!waits_) return;
  waits_ = false;
  waiting_.each([&](const Launches::Launch& launch, const void* args) { queue_in_pace(launch, args); });
}

void Gpu::begin_repeat(const void* key) {
  if (!uses_graphs_) return;
  auto known = std::find_if(repeats_.begin(), repeats_.end(), [&](const Repeat& each) { return each.key == key; });
  if (known == repeats_.end()) {
    if (repeats_.size() == kMostRepeats) {
      destroy(repeats_.front().graph);
      repeats_.erase(repeats_.begin());
    }
    repeats_.push_back({key, {}});
  } else {
    std::rotate(known, known + 1, repeats_.end());
  }
  waiting_.clear();
  waits_ = true;
}

void Gpu::end_repeat() {
  if (!waits_) return;
  Repeat& repeat = repeats_.back();
  if (waiting_.empty() || !(repeat.launches == waiting_)) {
    destroy(std::exchange(repeat.graph, nullptr));
    queue_waiting();
    std::swap(repeat.launches, waiting_);
    return;
  }
  waits_ = false;
  if (repeat.graph == nullptr) repeat.graph = capture(repeat.launches);
  check(driver_->cuGraphLaunch(repeat.graph, stream(Lane::kernels)), "cuGraphLaunch");
  repeat.launches.each([&](const Launches::Launch& launch, const void*) { queued_.push_back(launch.kernel); });
}

CUgraphExec Gpu::capture(const Launches& launches) {
  const CUstream kernels = stream(Lane::kernels);
  check(driver_->cuStreamBeginCapture_v2(kernels, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), "cuStreamBeginCapture");
  CUresult error = CUDA_SUCCESS;
  const char* failed = nullptr;
  launches.each([&](const Launches::Launch& launch, const void* args) {
    if (failed == nullptr && (error = queue(launch, args)) != CUDA_SUCCESS) failed = launch.kernel;
  });
  CUgraph graph = nullptr;
  const CUresult ended = driver_->cuStreamEndCapture(kernels, &graph);
  CUgraphExec made = nullptr;
  CUresult instantiated = CUDA_SUCCESS;
  if (graph != nullptr) {
    if (failed == nullptr) instantiated = driver_->cuGraphInstantiateWithFlags(&made, graph, 0);
    driver_->cuGraphDestroy(graph);
  }
  if (failed != nullptr) not_launched(failed, error);
  check(ended, "cuStreamEndCapture");
  check(instantiated, "cuGraphInstantiate");
  return made;
}

/// Waits for the launches of the graph first.
void Gpu::destroy(CUgraphExec graph) noexcept {
  if (graph == nullptr) return;
  driver_->cuStreamSynchronize(streams_[static_cast<size_t>(Lane::kernels)]);
  driver_->cuGraphExecDestroy(graph);
}

Gpu::Mark::Mark(Gpu& gpu) : gpu_(gpu) {
  if (gpu_.spare_events_.empty()) {
    gpu_.check(gpu_.driver_->cuEventCreate(&event_, CU_EVENT_DISABLE_TIMING), "cuEventCreate");
  } else {
    event_ = gpu_.spare_events_.back();
    gpu_.spare_events_.pop_back();
  }
}
Gpu::Mark::~Mark() { gpu_.spare_events_.push_back(event_); }
void Gpu::Mark::record(Lane lane) {
  gpu_.check(gpu_.driver_->cuEventRecord(event_, gpu_.stream(lane)), "cuEventRecord");
}
void Gpu::Mark::hold_back(Lane lane) const {
  gpu_.check(gpu_.driver_->cuStreamWaitEvent(gpu_.stream(lane), event_, 0), "cuStreamWaitEvent");
}
void Gpu::Mark::wait() const { gpu_.check(gpu_.driver_->cuEventSynchronize(event_), "cuEventSynchronize"); }
bool Gpu::Mark::reached() const {
  const CUresult error = gpu_.driver_->cuEventQuery(event_);
  if (error == CUDA_ERROR_NOT_READY) return false;
  gpu_.check(error, "cuEventQuery");
  return true;
}

void Gpu::order(Lane after, Lane before) {
  Mark mark(*this);
  mark.record(before);
  mark.hold_back(after);
}

}  // namespace lowrank::cuda
