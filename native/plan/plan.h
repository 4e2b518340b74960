// A plan is the ordered list of kernel steps of one mode (train, evaluate, forward) for a given capacity, with every
// buffer placed in one arena. It is made from the graph and the adapters' shapes alone: no weights, no values. Training
// executes exactly the plan that `lowrank plan` reports.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/lists.h"
#include "core/memory.h"
#include "core/precision.h"
#include "device/weight_store.h"
#include "graph/adapter_spec.h"
#include "graph/graph.h"
#include "plan/op.h"
#include "plan/step.h"

namespace lowrank {

class KernelSizes;

/// Unit of a buffer's rows: tokens, head rows, or none (its size is fixed).
enum class RowKind : uint8_t { tokens, head, fixed };

struct Buffer {
  std::string name;
  Category category = Category::activations;
  DType dtype = DType::f32;
  RowKind rows = RowKind::tokens;
  int64_t cols = 0;
  int64_t bytes = 0;  // at capacity, rounded up to 64
  int first = -1;     // first and last step that touches it
  int last = -1;
  int64_t offset = 0;  // in the arena
};

/// An adapter at a node.
struct AdapterSite {
  const AdapterSpec* spec = nullptr;
  std::vector<const Term*> terms;
  std::vector<int> trained;      // parameters of these that train, the magnitude too
  const Term* scaled = nullptr;  // of the terms the one with a magnitude, which scales the rows of the whole
};

/// An adapter's own copy that replaces a base weight.
struct CopyRef {
  int adapter = -1;
  int parameter = -1;
};
/// By weight of the graph; at most one adapter may replace a weight.
std::vector<CopyRef> resolve_copies(const Graph& graph, const std::vector<const AdapterSpec*>& adapters);

/// Rows of a weight whose gradient is formed at a time: bounds the workspace of the product.
inline constexpr int64_t kWeightGradientRows = 1024;

struct Plan {
  PlanOptions options;
  std::vector<Step> steps;
  std::vector<Buffer> buffers;
  std::vector<std::vector<AdapterSite>> sites;     // by node, then by adapter; of nodes where none acts empty
  std::vector<std::shared_ptr<const Term>> terms;  // of all sites
  std::vector<CopyRef> copies;                     // see resolve_copies
  int64_t arena_bytes = 0;
  int64_t offloaded_bytes = 0;  // of the file
  int64_t head_chunk = 0;       // rows of logits held at once
  int peak_step = 0;            // where the most bytes of the arena are live
  bool updates = false;         // parameters within the backward pass; see plan/updates.h
  // Fixed inputs, live through the whole plan.
  int tokens = -1, positions = -1;
  int rope_rows = -1;  // of the tables of rotations; where none has frequencies for long sequences, the positions
  int head_index = -1, head_labels = -1, head_losses = -1;
  int head_weights = -1, head_lse = -1;  // where the head rows have weights of their own, given after their losses

  /// Bytes of the arena that are live at every step.
  std::vector<int64_t> live_bytes() const;
  /// Live bytes of the arena by category at the peak; what fragmentation adds counts as workspace.
  std::vector<int64_t> peak_rows() const;
  std::string steps_text(const Graph& graph) const;
  std::string arena_text() const;
};

/// @param sites a plan with what adapters do at its nodes, and nothing else. Throws Error("SHAPE"), Error("CONFIG") or
/// Error("UNSUPPORTED") with the node's path.
Plan plan_with(const OpTable& ops, const KernelSizes& sizes, const Graph& graph,
               const std::vector<const AdapterSpec*>& adapters, const PlanOptions& options, Plan sites);

/// Places buffers so that no two that live at the same time overlap; returns the arena's size.
int64_t place_buffers(std::vector<Buffer>& buffers);

}  // namespace lowrank
