// The context of a running step: addresses, counts, and a device. While planning, everything is at capacity, addresses
// are invalid, and the device does not compute.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "device/device.h"
#include "device/host_view.h"
#include "device/layout.h"
#include "graph/graph.h"
#include "plan/plan.h"

namespace lowrank {

/// An adapter in a run: its values on the device, and its weight.
class AdapterRun {
 public:
  virtual ~AdapterRun() = default;
  virtual Ptr<float> value(int parameter) const = 0;
  virtual Ptr<float> gradient(int parameter) const = 0;  // null if frozen
  // The same for an optional parameter (-1 if absent).
  Ptr<float> value_if(int parameter) const { return parameter < 0 ? Ptr<float>() : value(parameter); }
  Ptr<float> gradient_if(int parameter) const { return parameter < 0 ? Ptr<float>() : gradient(parameter); }
  virtual float host_value(int parameter) const = 0;  // value of a frozen [1, 1] parameter

  /// Per-sequence gradients in private training by example: the address of the first one, and the stride in elements.
  /// Null if they are not kept separately.
  virtual Ptr<float> example_gradient(int) const { return {}; }
  virtual int64_t example_stride() const { return 0; }

  /// Cached norms of the rows that a magnitude scales, and their validity.
  struct Norms {
    Ptr<double> squares;  // [out] ||W_i||^2
    Ptr<float> norms;     // [out] ||W_i + delta_i||
    bool squares_hold, norms_hold;
  };
  virtual Norms norms(int term, bool base_replaced) const = 0;
  virtual void norms_made(int, bool /*base_replaced*/) {}

  /// Second moments [rank, rank] of the operand of a term's last factor, if the plan measures outputs.
  virtual Ptr<double> moment(int term) const = 0;

  float weight = 1;
  int64_t rank = 0;  // number in use; 0: all
  bool last_rank_only = false;
};

/// Most adapters of a row that is multiplied beside rows with others.
inline constexpr int64_t kMostAdapters = 8;

/// A part of the rows of a call. Buffers begin there.
struct RowWindow {
  int64_t token = 0;
  int64_t cache = 0;                                          // first token of the text in the cache
  const std::vector<int32_t>* in_use = nullptr;               // the adapters of its rows; null: all
  std::span<const std::vector<int32_t>* const> of_rows = {};  // those of each row, where they differ
};

/// Messages at the ends of a part of a model: hidden states on their way to the head, and gradients on their way back.
enum class Crossing : uint8_t { input, output, output_gradient, input_gradient };

class Run {
 public:
  Run(const Graph& graph, const Plan& plan)
      : graph(graph), plan(plan), tokens(plan.options.tokens), head_rows(plan.options.head_rows) {}
  virtual ~Run() = default;

  const Graph& graph;
  const Plan& plan;
  Device* device = nullptr;
  Layout* room = nullptr;
  bool counting = false;

  // The call.
  int64_t tokens, head_rows, past = 0;
  float loss_scale = 1, temperature = 1, smoothing = 0, noise = 0;
  std::span<const int32_t> host_seqlens;
  std::span<AdapterRun* const> adapters;
  uint64_t seed = 0, step = 0, micro_step = 0;
  RowWindow window;
  bool side_by_side = false;  // rows are of several texts, and each has the bits that it has alone
  /// True if an adapter acts on the rows of the window.
  bool uses(size_t adapter) const {
    return window.in_use == nullptr ||
           std::find(window.in_use->begin(), window.in_use->end(), adapter) != window.in_use->end();
  }

  // The session.
  Ptr<std::byte> arena, kv_cache;
  Ptr<float> ropes;  // see rope_table_floats
  int64_t positions = 0;
  Stash* stash = nullptr;  // null if no plan offloads

  const Node& node(const Step& step) const { return graph.nodes[step.node]; }
  int64_t cols(int value) const { return graph.values[value].cols; }
  bool training() const { return plan.options.mode == Mode::train; }
  Precision precision() const { return plan.options.precision; }
  DType operand() const { return operand_of(precision()); }
  /// State that a node keeps between calls.
  Ptr<std::byte> state(int node) const { return kv_cache + plan.state_offsets[node]; }

  /// Elements from row to row.
  int64_t stride(const Buffer& b) const { return b.within < 0 ? b.cols : plan.buffers[b.within].cols; }
  template <class T = std::byte>
  Ptr<T> at(int buffer) const {
    const Buffer& b = plan.buffers[buffer];
    const int64_t first = b.rows == RowKind::tokens ? window.token : 0;
    return (arena + b.offset + first * stride(b) * size_of(b.dtype)).template as<T>();
  }
  Matrix matrix(int buffer) const {
    const Buffer& b = plan.buffers[buffer];
    return {at(buffer), b.dtype, stride(b)};
  }
  /// A base weight, or the adapter's copy that replaces it.
  Factor weight(int id) const;
  Ptr<float> vector(int id) const { return weight(id).dense; }
  /// Destination of a trained base weight's gradient; null if it is frozen or nothing is trained.
  Ptr<float> weight_gradient(int id) const;

  /// Adds a reduction over tokens to a parameter's gradient, starting at element `offset`; ignores the kernel's `out`.
  /// With per-example clipping, each sequence's part goes to that sequence's gradient.
  void reduce_into(const AdapterRun& adapter, int parameter, int64_t offset, ReduceTokens kernel);
  /// Workspace for operands of all tokens in the plan, reused by successive kernels.
  Matrix take_operand(int64_t cols) {
    return {room->take<std::byte>(plan.options.tokens * cols * size_of(operand())), operand(), cols};
  }
  /// One key per (seed, step, micro-step, node), so that recomputation and resuming repeat the same draws.
  uint64_t dropout_key(int node) const;
  /// A condition that depends on values; plans reserve space for both outcomes.
  bool may(bool fact) const { return counting || fact; }

  /// Fills the beginning of a buffer.
  void upload(int buffer, std::span<const int32_t> from) {
    device->memory().upload(at(buffer), from.data(), static_cast<int64_t>(from.size_bytes()));
  }
  /// Host view of a buffer's elements.
  template <class T>
  HostView<const T> view(int buffer, int64_t count, std::string_view what) const {
    return {device->memory(), at<T>(buffer), count, what};
  }

  /// Runs a step of the plan on the device, in its planned workspace.
  void execute(const Step& step);
  /// Launches a kernel with its share of the step's workspace.
  void launch(const Kernel& kernel) { device->launch(kernel, room->rest(device->sizes().workspace(kernel))); }
  /// Fills a buffer with zeros.
  void clear(int buffer);
  /// Adds dy^T x to the gradient of a weight [out, in], one block of rows at a time.
  void add_weight_gradient(const Matrix& dy, int64_t rows, int64_t out, const Matrix& x, int64_t in,
                           Ptr<float> gradient);

  // Steps implemented by the session rather than an operation.
  virtual void begin_gradient(const Step&) {}
  virtual void update(const Step&) {}
  /// Moves a buffer from or to the rank that holds the layers before or behind those of the graph.
  virtual void cross(Crossing, int /*buffer*/) {}

 protected:
  /// Vectors of the base are fp32 on every device.
  virtual Ptr<float> base_vector(int) const { return Ptr<float>(kNowhere); }
};

}  // namespace lowrank
