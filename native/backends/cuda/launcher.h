// Queues kernels, and the bytes that they need beside their arguments. The device implements it over the driver, tests
// over executions of the kernels on the host.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cuda/card.h"
#include "backends/cuda/kernel.h"
#include "backends/cuda/library_product.h"
#include "kernels/ptr.h"

namespace lowrank::cuda {

class Weights;

/// Blocks of a launch.
struct Grid {
  int64_t x = 1, y = 1, z = 1;
  bool operator==(const Grid&) const = default;
};
/// Limits of every card on the blocks of a launch, and on those of its second and third dimension.
inline constexpr int64_t kMostBlocks = (int64_t{1} << 31) - 1, kMostBlocksAcross = 65535;

/// Work is done in the order of the calls and may be done after a call returns.
class Launcher {
 public:
  virtual ~Launcher() = default;
  virtual const Card& card() const = 0;
  /// Base weights that kernels name.
  virtual const Weights& weights() const = 0;
  /// Launches nothing where there are no blocks.
  /// @param shared_bytes of dynamic shared memory
  template <class Args>
  void launch(const KernelOf<Args>& kernel, Grid blocks, int threads, const Args& args, int64_t shared_bytes = 0) {
    static_assert(sizeof(Args) <= 4000);
    if (blocks.x > 0 && blocks.y > 0 && blocks.z > 0)
      // The analyzer does not see into constant tables of kernels. NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage)
      launch(kernel.name, blocks, threads, &args, int64_t{sizeof(Args)}, shared_bytes);
  }
  virtual void zero(Ptr<std::byte> to, int64_t bytes) = 0;
  virtual void zero(const Matrix& to, int64_t rows, int64_t cols) = 0;
  /// The host's bytes may change when it returns.
  virtual void upload(Ptr<std::byte> to, const void* from, int64_t bytes) = 0;
  /// A product by a library; false, and nothing queued, where there is none or it cannot.
  /// @param workspace of library_workspace(card().sm) bytes
  virtual bool multiply(const LibraryProduct& /*product*/, Ptr<std::byte> /*workspace*/) { return false; }
  /// True where there is a library.
  virtual bool has_library() const { return false; }

 protected:
  virtual void launch(const char* kernel, Grid blocks, int threads, const void* args, int64_t args_bytes,
                      int64_t shared_bytes) = 0;
};

/// The address as kernels take it.
template <class T>
T* device_pointer(Ptr<T> at) {
  return reinterpret_cast<T*>(at.address());
}

}  // namespace lowrank::cuda
