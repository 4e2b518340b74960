// The surroundings of a step that runs: addresses, counts and a device. In a plan in the making all of it is at capacity,
// the addresses lie nowhere and the device computes nothing.
#pragma once

#include <span>

#include "device/device.h"
#include "device/layout.h"
#include "graph/graph.h"
#include "plan/plan.h"

namespace lowrank {

/// Numbers of an adapter on the device.
class AdapterValues {
 public:
  virtual ~AdapterValues() = default;
  virtual Ptr<float> value(int parameter) const = 0;
  virtual Ptr<float> gradient(int parameter) const = 0;  // null where it is frozen
};

class Run {
 public:
  Run(const Graph& graph, const Plan& plan) : graph(graph), plan(plan), tokens(plan.options.tokens), head_rows(plan.options.head_rows) {}
  virtual ~Run() = default;

  const Graph& graph;
  const Plan& plan;
  Device* device = nullptr;
  Layout* room = nullptr;
  bool counting = false;

  // Of the call.
  int64_t tokens, head_rows, past = 0;
  float loss_scale = 1;
  std::span<const int32_t> host_seqlens;
  std::span<const AdapterValues* const> adapters;

  // Of the session.
  Ptr<std::byte> arena, kv_cache;
  Ptr<float> cos, sin;

  const Node& node(const Step& step) const { return graph.nodes[step.node]; }
  int64_t cols(int value) const { return graph.values[value].cols; }
  Precision precision() const { return plan.options.precision; }
  DType operand() const { return operand_of(precision()); }

  template <class T = std::byte>
  Ptr<T> at(int buffer) const {
    return (arena + plan.buffers[buffer].offset).as<T>();
  }
  Matrix matrix(int buffer) const {
    const Buffer& b = plan.buffers[buffer];
    return {at(buffer), b.dtype, b.cols};
  }
  /// A weight of the base, or the copy of an adapter that stands in for it.
  Factor weight(int id) const;
  Ptr<float> vector(int id) const { return weight(id).dense; }
  /// Where the gradient of a trained base weight adds up; null where it is frozen, or nothing trains.
  Ptr<float> weight_gradient(int id) const;

  /// Launches a kernel with what it needs of the step's workspace.
  void launch(const Kernel& kernel) { device->launch(kernel, room->rest(device->sizes().workspace(kernel))); }
  /// Fills a buffer with zeros.
  void clear(int buffer);
  /// Adds dy^T x to the gradient of a weight [out, in], a block of its rows at a time.
  void add_weight_gradient(const Matrix& dy, int64_t rows, int64_t out, const Matrix& x, int64_t in, Ptr<float> gradient);

  // The session's own part in steps that no operation has for itself.
  virtual void begin_gradient(const Step&) {}
  virtual void update(const Step&) {}
  virtual void offload(const Step&) {}
  virtual void reload(const Step&) {}

 protected:
  /// Vectors of the base are fp32 numbers on every device.
  virtual Ptr<float> base_vector(int) const { return Ptr<float>(kNowhere); }
};

}  // namespace lowrank
