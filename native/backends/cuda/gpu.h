// A card in use: its context, three streams of work, and its kernels.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "backends/cuda/driver.h"
#include "backends/cuda/launches.h"
#include "backends/cuda/launcher.h"
#include "backends/cuda/pack.h"

namespace lowrank::cuda {

/// Work on a stream is done in the order of the calls. Copies beside the kernels have a stream for each direction.
enum class Lane : uint8_t { kernels, in, out };

/// Failures stay: the first one ends the card for this process, and every call after it throws the same
/// Error("DEVICE"). LOWRANK_CUDA_BLOCKING=1 waits for every kernel, so that the error names the one that failed.
class Gpu {
 public:
  /// Takes the card's primary context, which libraries share. Throws Error("DEVICE"), or Error("FILE_FORMAT") for a
  /// damaged pack.
  /// @param pack path of the kernel pack
  /// @param inflated its images for the card that are compressed
  Gpu(std::shared_ptr<const Driver> driver, const FoundCard& found, const std::string& pack, Inflated inflated = {});
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;
  /// Waits for what is queued.
  ~Gpu();

  const Card& card() const { return found_.card; }
  /// Such as "cuda:0".
  std::string name() const { return "cuda:" + std::to_string(found_.number); }
  const Driver& driver() const { return *driver_; }

  /// The right to call what follows: one thread at a time, with the card's context.
  class Entered {
   public:
    /// Throws what failed earlier, but not where it is entered to give something back.
    explicit Entered(Gpu& gpu, bool gives_back = false);

   private:
    std::unique_lock<std::mutex> lock_;
  };

  /// Sets the card's context in a thread that calls a library, and nothing of this.
  void make_current() const { driver_->cuCtxSetCurrent(context_); }

  /// To queue work on, after all that was launched.
  CUstream stream(Lane lane) {
    queue_waiting();
    return streams_[static_cast<size_t>(lane)];
  }
  /// Throws Error("DEVICE") where a call of the driver failed.
  void check(CUresult error, const char* call);
  /// Waits until all work of a stream is done.
  void finish(Lane lane);
  /// The same for all streams; never throws.
  void settle() noexcept;

  void launch(const char* kernel, Grid blocks, int threads, const void* args, int64_t args_bytes, int64_t shared_bytes);

  /// Launches from here to `end_repeat` wait until then, or until other work is queued. Where all of it is the same
  /// as the last time with this key, the driver is given it as one graph. LOWRANK_CUDA_GRAPHS=0 does without.
  void begin_repeat(const void* key);
  void end_repeat();
  /// Forgets what waits.
  void drop_repeat() { waits_ = false; }

  /// A place in a stream's work.
  class Mark {
   public:
    explicit Mark(Gpu& gpu);
    ~Mark();
    Mark(const Mark&) = delete;
    Mark& operator=(const Mark&) = delete;
    void record(Lane lane);
    /// The stream's work after this waits for the mark.
    void hold_back(Lane lane) const;
    /// The host waits for the mark.
    void wait() const;
    bool reached() const;

   private:
    Gpu& gpu_;
    CUevent event_ = nullptr;
  };
  /// Work of one stream that is queued from now on waits for all that another has.
  void order(Lane after, Lane before);

 private:
  struct Function {
    CUfunction handle = nullptr;
    int64_t shared_bytes = 48 * 1024;  // that it may ask for
  };
  Function& function(const char* kernel);
  CUresult queue(const Launches::Launch& launch, const void* args);
  void queue_in_pace(const Launches::Launch& launch, const void* args);
  void queue_waiting();
  CUgraphExec capture(const Launches& launches);
  void destroy(CUgraphExec graph) noexcept;
  [[noreturn]] void not_launched(const char* kernel, CUresult error);
  [[noreturn]] void broken(const std::string& what);
  void release() noexcept;

  const std::shared_ptr<const Driver> driver_;
  const FoundCard found_;
  const bool blocking_, uses_graphs_;
  Pack pack_;
  std::mutex mutex_;
  CUdevice device_ = 0;
  CUcontext context_ = nullptr;
  std::array<CUstream, 3> streams_{};
  std::vector<CUevent> spare_events_;
  std::vector<CUmodule> modules_;  // by number in the pack; null until a kernel of it is used
  std::map<std::string, Function, std::less<>> functions_;
  std::vector<const char*> queued_;             // kernels that were launched since the stream was last waited for
  std::array<std::unique_ptr<Mark>, 2> paces_;  // so that the queue never runs far ahead
  int64_t launches_ = 0;
  bool waits_ = false;
  Launches waiting_;
  struct Repeat {
    const void* key;
    Launches launches;            // of the last time
    CUgraphExec graph = nullptr;  // of these, from the second time on
  };
  std::vector<Repeat> repeats_;  // the last used one last
  std::string failure_;
};

}  // namespace lowrank::cuda
