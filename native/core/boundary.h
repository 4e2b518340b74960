// Made by scripts/lists.mjs from native/boundary.json.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/lists.h"

namespace lowrank {

/// Options of a plan.
struct PlanOptions {
  Mode mode{};
  /// Maximum tokens per call.
  int64_t tokens = 0;
  /// Maximum sequences per call.
  int64_t sequences = 0;
  /// Maximum head rows per call: labeled positions (train, evaluate), or positions whose logits are read (forward).
  int64_t head_rows = 0;
  Precision precision{};
  /// `forward` only: capacity of the KV cache in tokens, at least 1.
  int64_t kv_capacity = 0;
  /// `train` and `evaluate`: bytes of logits computed at a time, at least one tile of rows. Default 48 MiB.
  int64_t logits_bytes = 50331648;
  /// `train` only: recompute each block in the backward pass instead of keeping its activations.
  bool recompute = false;
  /// With `recompute`: keep the inputs of blocks in a file.
  bool offload = false;
  /// Folder of that file; not needed for planning.
  std::string offload_folder{};
  /// With `recompute`: keep the attention outputs instead of recomputing them.
  bool keep_attention = false;
  /// `evaluate` only: measure the output that the first adapter adds at each layer.
  bool output_norms = false;
  /// `train` only: each labeled position has its own weight in the loss, given with the call.
  bool row_weights = false;
  /// With `rowWeights`: the weights are given once the log-probabilities are known, and logits are recomputed.
  bool two_passes = false;
  /// `train` and `evaluate`: count the labeled positions whose label has the largest logit, the first one on a tie.
  bool counts_hits = false;

  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("mode", of.mode, false);
    visit("tokens", of.tokens, false);
    visit("sequences", of.sequences, false);
    visit("headRows", of.head_rows, false);
    visit("precision", of.precision, false);
    visit("kvCapacity", of.kv_capacity, true);
    visit("logitsBytes", of.logits_bytes, true);
    visit("recompute", of.recompute, true);
    visit("offload", of.offload, true);
    visit("offloadFolder", of.offload_folder, true);
    visit("keepAttention", of.keep_attention, true);
    visit("outputNorms", of.output_norms, true);
    visit("rowWeights", of.row_weights, true);
    visit("twoPasses", of.two_passes, true);
    visit("countsHits", of.counts_hits, true);
  }
};

/// Bytes of one category.
struct PlanRow {
  Category category{};
  /// In the memory of the computing device.
  int64_t bytes = 0;
  /// In pinned host memory, alongside a GPU; absent if zero.
  int64_t pinned_bytes = 0;

  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("category", of.category, false);
    visit("bytes", of.bytes, false);
    visit("pinnedBytes", of.pinned_bytes, true);
  }
};

/// A step of a plan: its kernel, the memory in use, and its work.
struct PlanMoment {
  Phase phase{};
  std::string kernel{};
  /// Path of the node in the model; empty if it belongs to none.
  std::string node{};
  /// Arena bytes in use.
  int64_t live_bytes = 0;
  /// Multiply-adds of products with base weights at full capacity, excluding those of adapters and attention.
  double multiply_adds = 0;

  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("phase", of.phase, false);
    visit("kernel", of.kernel, false);
    visit("node", of.node, false);
    visit("liveBytes", of.live_bytes, false);
    visit("multiplyAdds", of.multiply_adds, false);
  }
};

/// Planned bytes. The rows are the bytes in use at the peak and add up to `peakBytes`.
struct PlanReport {
  int64_t peak_bytes = 0;
  /// Pinned host memory used alongside a GPU, in bytes; the sum of the rows' `pinnedBytes`.
  int64_t pinned_bytes = 0;
  std::vector<PlanRow> rows{};
  /// Exact size of the arena (activations, loss, workspace, and gradients of updates in the backward pass), in bytes.
  int64_t arena_bytes = 0;
  /// Path and phase of the step with the highest memory use, e.g. `backward model.layers.29.mlp`.
  std::string peak_at{};
  /// The steps of the plan with the largest arena, in order; computed on each access.
  std::vector<PlanMoment> timeline{};
  int64_t trainable_parameters = 0;
  int64_t total_parameters = 0;
  /// Bytes of a paged base that each call of the plan with the largest arena reads from disk, or on a GPU from pinned
  /// memory.
  int64_t paged_read_bytes = 0;
  /// Bytes of activations on disk or in pinned memory that each call of a training plan writes and reads.
  int64_t offloaded_bytes = 0;
  /// Bytes of paged optimizer state on disk or in pinned memory that each update reads and writes.
  int64_t paged_state_bytes = 0;
  /// Whether file pages are released as soon as they are dropped, as on Linux; elsewhere the system decides when.
  bool drops_pages = false;

  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("peakBytes", of.peak_bytes, false);
    visit("pinnedBytes", of.pinned_bytes, false);
    visit("rows", of.rows, false);
    visit("arenaBytes", of.arena_bytes, false);
    visit("peakAt", of.peak_at, false);
    visit("timeline", of.timeline, false);
    visit("trainableParameters", of.trainable_parameters, false);
    visit("totalParameters", of.total_parameters, false);
    visit("pagedReadBytes", of.paged_read_bytes, false);
    visit("offloadedBytes", of.offloaded_bytes, false);
    visit("pagedStateBytes", of.paged_state_bytes, false);
    visit("dropsPages", of.drops_pages, false);
  }
};

/// All tokens by id.
struct TokenTable {
  /// The bytes of all tokens, one after the other.
  std::vector<uint8_t> bytes{};
  /// Where each token ends in them; a token without bytes is never allowed.
  std::vector<int32_t> ends{};
  /// 1 for special tokens, which texts do not have.
  std::vector<uint8_t> special{};

  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("bytes", of.bytes, false);
    visit("ends", of.ends, false);
    visit("special", of.special, false);
  }
};

/// States as lists of edges and of calls; those of state `s` are `begin[s]` to `begin[s + 1] - 1`.
struct GrammarTables {
  int start = 0;
  std::vector<int32_t> edge_begin{};
  /// Bytes `edgeLow[e]` to `edgeHigh[e]`, after which `edgeTo[e]` is next; in ascending order, without overlaps.
  std::vector<int32_t> edge_low{};
  std::vector<int32_t> edge_high{};
  std::vector<int32_t> edge_to{};
  std::vector<int32_t> call_begin{};
  /// A rule begins at `callStart[c]`, and at its end `callTo[c]` is next.
  std::vector<int32_t> call_start{};
  std::vector<int32_t> call_to{};
  /// 1 where a rule may end.
  std::vector<int32_t> accepts{};

  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("start", of.start, false);
    visit("edgeBegin", of.edge_begin, false);
    visit("edgeLow", of.edge_low, false);
    visit("edgeHigh", of.edge_high, false);
    visit("edgeTo", of.edge_to, false);
    visit("callBegin", of.call_begin, false);
    visit("callStart", of.call_start, false);
    visit("callTo", of.call_to, false);
    visit("accepts", of.accepts, false);
  }
};

}  // namespace lowrank
