// Runs launches with a stand-in for cuBLASLt.
#pragma once

#include <memory>
#include <vector>

#include "backends/cuda/cublaslt.h"
#include "backends/cuda/runner.h"

namespace lowrank::cuda {

/// Emulated kernels, and the stand-in for what is large.
class LibraryRunner final : public Runner {
 public:
  LibraryRunner() : Runner("with a library") {
    std::string reason;
    library_ = CublasLt::open(card_.sm, reason);
    card_.library_least = 1;
  }
  bool has_library() const override { return true; }
  bool multiply(const LibraryProduct& product, Ptr<std::byte> workspace) override {
    const bool served = library_->multiply(product, workspace, nullptr);
    if (served) products_.push_back(product);
    return served;
  }
  /// Cuts products that decode factors into slices of 256 outputs.
  void cut() { card_.decoded_bytes = 1; }
  /// Products that the library served.
  const std::vector<LibraryProduct>& products() const { return products_; }
  int served() const { return static_cast<int>(products_.size()); }

 private:
  void launch(const char* kernel, Grid blocks, int threads, const void* args, int64_t args_bytes,
              int64_t shared_bytes) override {
    emulate::Options options;
    options.card = card_;
    options.memory = &memory();
    emulate::launch(kernel, blocks, threads, args, args_bytes, shared_bytes, options);
  }
  std::unique_ptr<CublasLt> library_;
  std::vector<LibraryProduct> products_;
};

}  // namespace lowrank::cuda
