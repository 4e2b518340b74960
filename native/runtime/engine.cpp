#include "runtime/engine.h"

#include <cstdlib>

#include "backends/cpu/device.h"
#include "comm/alone.h"
#include "core/error.h"
#include "os/cores.h"
#include "os/scheduling.h"

namespace lowrank {
namespace {

int threads_from_environment() {
  const char* text = std::getenv("LOWRANK_THREADS");
  if (text == nullptr || *text == '\0') return os::usable_cores();
  char* end = nullptr;
  const long count = std::strtol(text, &end, 10);
  if (*end != '\0' || count < 1 || count > 1024)
    fail("CONFIG", "LOWRANK_THREADS is '", text, "'; expected a number of threads from 1 to 1024");
  return static_cast<int>(count);
}

}  // namespace

Engine::Engine() { set_comm(std::make_unique<Alone>()); }

Engine& Engine::instance() {
  static Engine* const engine = new Engine;  // leaked on purpose: its thread may outlive static destructors
  return *engine;
}

void Engine::set_comm(std::unique_ptr<Comm> comm) {
  disconnect();
  sums_.reset();
  comm_ = std::move(comm);
  sums_ = std::make_unique<Sums>(*comm_);
}

void Engine::connect(const std::string& device, const cuda::NcclId& id) {
  disconnect();
  link_ = gpus_.link(device, {id, comm_->rank(), comm_->size()}, [this] { return comm_->lost() >= 0; });
}

int Engine::threads() const {
  const std::lock_guard lock(mutex_);
  if (threads_ == 0) threads_ = threads_from_environment();
  return threads_;
}

cpu::Level Engine::level() const {
  const std::lock_guard lock(mutex_);
  if (!level_) level_ = cpu::default_level();
  return *level_;
}

Memory& Engine::memory(const std::string& device) {
  return device == "cpu" ? cpu::memory() : gpus_.open(device).memory();
}

std::unique_ptr<const KernelSizes> Engine::sizes(const std::string& device, std::optional<int> threads) {
  if (device != "cpu") return std::make_unique<cuda::CudaSizes>(gpus_.card(device));
  return std::make_unique<cpu::CpuSizes>(threads.value_or(this->threads()));
}

void Engine::configure(int threads, std::optional<cpu::Level> level) {
  if (level) cpu::kernels(*level);  // throws where the machine cannot run it
  const std::lock_guard lock(mutex_);
  if (threads > 0) threads_ = threads;
  if (level) level_ = level;
}

void Engine::post(std::function<void(Context&)> job, const Memory* memory) {
  Device* const device = memory == nullptr ? nullptr : gpus_.with(*memory);
  cpu::kernels(level());  // an unusable LOWRANK_ISA is the caller's error, not the engine thread's
  threads();
  std::unique_lock lock(mutex_);
  ended_.wait(lock, [&] { return !stop_; });
  if (!thread_.joinable()) thread_ = std::thread([this] { work(); });
  jobs_.push_back({std::move(job), device});
  wake_.notify_one();
}

void Engine::work() {
  os::prefer_long_slices();
  std::unique_ptr<Pool> pool;
  int wanted = 0;  // threads asked for when the pool was made; the system may have given fewer
  for (;;) {
    Job job;
    int threads;
    cpu::Level level;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stop_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
      threads = threads_;
      level = *level_;
    }
    if (!pool || wanted != threads) {
      pool.reset();
      pool = std::make_unique<Pool>(threads, os::prefer_long_slices);
      wanted = threads;
    }
    cpu::CpuDevice device(*pool, cpu::kernels(level), cpu::CpuSizes(threads));
    Context context{*pool, job.device == nullptr ? device : *job.device, comm_.get()};
    job.work(context);
  }
}

void Engine::attach() {
  const std::lock_guard lock(mutex_);
  ++users_;
}

void Engine::detach() {
  std::unique_lock lock(mutex_);
  if (--users_ > 0) return;
  ended_.wait(lock, [&] { return !stop_; });
  if (!thread_.joinable()) return;
  stop_ = true;
  wake_.notify_all();
  std::thread ending = std::move(thread_);
  lock.unlock();
  ending.join();
  lock.lock();
  stop_ = false;  // another environment may still start jobs
  ended_.notify_all();
}

}  // namespace lowrank
