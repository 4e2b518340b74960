// NVIDIA's library of matrix products, cuBLASLt, where a machine has it: opened at run time, never shipped. Its types
// and constants are written out here, so that no CUDA header is needed.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "backends/cuda/library_product.h"

namespace lowrank::cuda {

/// The functions of the library.
struct CublasLtCalls;

/// One thread at a time, with the card's context current.
class CublasLt {
 public:
  /// Looks for the library where LOWRANK_CUBLASLT says ("off": nowhere), else among the system's libraries, in a CUDA
  /// toolkit (CUDA_HOME, CUDA_PATH), and in the Python environment that is active (VIRTUAL_ENV, CONDA_PREFIX), but
  /// nowhere where LOWRANK_LIBCUDA names a driver.
  /// @param sm of the card
  /// @param reason why there is none, where null is returned
  static std::unique_ptr<CublasLt> open(int sm, std::string& reason);
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  /// Path or name by which it was found.
  const std::string& path() const { return path_; }
  /// Such as 130200 for 13.2.
  int64_t version() const;
  /// Queues a product; false where the library has no kernel for it.
  /// @param workspace of library_workspace(sm) bytes
  /// @param stream of the driver
  bool multiply(const LibraryProduct& product, Ptr<std::byte> workspace, void* stream);

 private:
  struct Plan;
  using Key = std::array<int64_t, 10>;

  CublasLt(std::unique_ptr<const CublasLtCalls> calls, void* handle, std::string path, int sm);
  std::unique_ptr<Plan> plan_of(const LibraryProduct& product) const;

  const std::unique_ptr<const CublasLtCalls> calls_;
  void* const handle_;
  const std::string path_;
  const int sm_;
  std::map<Key, std::unique_ptr<Plan>> plans_;  // null: the library has no kernel
};

/// Paths and names by which the library may be found, in the order in which they are tried.
std::vector<std::string> cublaslt_candidates();

}  // namespace lowrank::cuda
