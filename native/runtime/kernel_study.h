// Speed of the kernels: each on its own inputs, interleaved with a loop of only multiply-adds. Only shapes are
// needed; weights are made up.
#pragma once

#include <limits>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "runtime/engine.h"
#include "weights/weights.h"

namespace lowrank {

/// A linear of [out, in] with an adapter of `rank`: y = x W^T, dx = dy W, and the gradients of A and B.
struct LinearStudy {
  int64_t tokens = 0, out = 0, in = 0, rank = 0;
  StorageFormat format = StorageFormat::f32;
};

/// Attention of `sequences` of equal length, forward and backward.
struct AttentionStudy {
  int32_t sequences = 0, length = 0, heads = 0, kv_heads = 0, head_dim = 0;
  int32_t window = std::numeric_limits<int32_t>::max();  // keys that a token sees at most
};

/// The head [vocab, hidden], the loss, and the gradient at the head's input, as a training step has them.
struct HeadStudy {
  int64_t tokens = 0, vocab = 0, hidden = 0;
  StorageFormat format = StorageFormat::f32;
};

struct KernelStudy {
  std::variant<LinearStudy, AttentionStudy, HeadStudy> subject;
  cpu::Precision precision = cpu::Precision::f32;
  int rounds = 1;
};

/// One kernel: what a call computes, a multiply-add being two operations, and the least time that it took.
struct KernelTime {
  std::string name;
  double operations = 0;
  double seconds = 0;
};

struct KernelTimes {
  std::vector<KernelTime> kernels;
  /// Operations per second of all threads in a loop of multiply-adds, measured between the rounds; none where the level
  /// has no such loop.
  std::optional<double> peak;
  /// Bytes that the head's first call made resident, activations and loss; none if the system does not tell.
  std::optional<int64_t> extra_bytes;
};

/// Times the kernels of a study in rounds. Other processes only ever make a kernel slower, so the best round counts. One
/// thread is timed by its CPU time, which leaves out the slices that others took. Throws Error("SHAPE") for sizes that are
/// none or that a format cannot hold, Error("ABORTED").
KernelTimes time_kernels(Context& context, const KernelStudy& study, const CancelFlag& cancel);

/// Operations per second of all threads in a loop of multiply-adds; none where the level has no such loop.
std::optional<double> arithmetic_peak(Context& context, cpu::Precision precision, int rounds);

}  // namespace lowrank
