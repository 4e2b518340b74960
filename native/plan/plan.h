// A plan is the ordered list of kernel steps for one mode (train, evaluate, forward) and capacity, with every buffer
// placed in one arena. It depends only on the graph and the adapters' shapes, not on weights or values. Training
// executes exactly the plan that `lowrank plan` reports.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/boundary.h"
#include "core/memory.h"
#include "core/precision.h"
#include "device/weight_store.h"
#include "graph/adapter_spec.h"
#include "graph/graph.h"
#include "plan/op.h"
#include "plan/step.h"

namespace lowrank {

class KernelSizes;

/// What a buffer's rows count: tokens, head rows, or nothing (fixed size).
enum class RowKind : uint8_t { tokens, head, fixed };

struct Buffer {
  std::string name;
  Category category = Category::activations;
  DType dtype = DType::f32;
  RowKind rows = RowKind::tokens;
  int64_t cols = 0;
  int64_t bytes = 0;  // at capacity, rounded up to 64
  int first = -1;     // first and last step that uses it
  int last = -1;
  int64_t offset = 0;  // in the arena
  bool dense = false;  // a step takes its rows to follow each other
  // The wider buffer in whose rows this one lies, or -1, and its first column there; bytes is then 0.
  int within = -1;
  int64_t column = 0;
};

/// An adapter at a node.
struct AdapterSite {
  const AdapterSpec* spec = nullptr;
  std::vector<const Term*> terms;
  std::vector<int> trained;      // their trained parameters, including the magnitude
  const Term* scaled = nullptr;  // the term with a magnitude, if any, which scales the rows of the whole
};

/// An adapter's own copy that replaces a base weight.
struct CopyRef {
  int adapter = -1;
  int parameter = -1;
};
/// By weight index; at most one adapter may replace each weight.
std::vector<CopyRef> resolve_copies(const Graph& graph, const std::vector<const AdapterSpec*>& adapters);

/// Rows of a weight whose gradient is computed at a time, which bounds the workspace of the product.
inline constexpr int64_t kWeightGradientRows = 1024;

struct Plan {
  PlanOptions options;
  std::vector<Step> steps;
  std::vector<Buffer> buffers;
  std::vector<std::vector<AdapterSite>> sites;     // by node, then by adapter; empty for nodes without adapters
  std::vector<std::shared_ptr<const Term>> terms;  // of all sites
  std::vector<CopyRef> copies;                     // see resolve_copies
  int64_t arena_bytes = 0;
  int64_t state_bytes = 0;             // kept by nodes between calls
  std::vector<int64_t> state_offsets;  // of each node's share of them
  int64_t offloaded_bytes = 0;         // size of the file
  int logits = -1;                     // buffer of the head
  int64_t head_chunk = 0;              // rows of logits held at once
  int peak_step = 0;                   // step at which arena use peaks
  bool updates = false;                // whether parameters are updated in the backward pass; see plan/updates.h
  // Fixed inputs, live throughout the plan.
  int tokens = -1, positions = -1;
  int rope_rows = -1;  // rows in the rotation tables; the positions if no rotation has separate long frequencies
  int head_index = -1, head_labels = -1, head_losses = -1;
  int head_weights = -1, head_lse = -1;  // for row weights that are given after the losses are known
  int head_hits = -1;                    // if hits are counted

  /// Arena bytes in use at every step.
  std::vector<int64_t> live_bytes() const;
  /// Arena bytes by category at the peak; fragmentation counts as workspace.
  std::vector<int64_t> peak_rows() const;
  std::string steps_text(const Graph& graph) const;
  std::string arena_text() const;
};

/// Places buffers so that no two live at the same time overlap, unless one is within another; returns the arena's size.
int64_t place_buffers(std::vector<Buffer>& buffers);

}  // namespace lowrank
