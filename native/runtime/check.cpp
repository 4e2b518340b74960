// LOWRANK_CHECK: every step again with the reference kernels, or its kernels held to the operands that they name.
#include <algorithm>
#include <cmath>

#include "adapters/term.h"
#include "core/error.h"
#include "runtime/execute.h"

namespace lowrank {
namespace {

/// A range of `cols` columns, from `first`, in rows of `ld` elements.
struct Compared {
  int64_t rows, cols, ld, first = 0;
};

void compare(const Step& step, const std::string& what, DType dtype, const void* fast, const void* reference,
             const Compared& part, Precision precision, const std::string& path) {
  if (dtype != DType::f32 && dtype != DType::bf16) return;
  const auto element = [&](const void* data, int64_t i) {
    return dtype == DType::f32 ? static_cast<const float*>(data)[i]
                               : f32_from_bf16(static_cast<const uint16_t*>(data)[i]);
  };
  double difference = 0, norm = 0;
  for (int64_t row = 0; row < part.rows; ++row) {
    const int64_t begin = row * part.ld + part.first;
    for (int64_t i = begin; i < begin + part.cols; ++i) {
      const double r = element(reference, i), d = element(fast, i) - r;
      difference += d * d;
      norm += r * r;
    }
  }
  const double limit = precision == Precision::bf16 ? 2e-2 : 1e-4;
  const double relative = norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
  if (!(relative <= limit))
    fail("INTERNAL", "LOWRANK_CHECK: ", name_of(step.phase), ' ', step.kind->name, " at ", path, ", ", what,
         ": relative difference ", relative, " from the reference kernels");
}

}  // namespace

/// Runs a step, then the same step with the reference kernels from the same inputs, and stops at the first difference.
void Executor::run_checked(const Step& step) {
  if (!reference_) reference_ = context_.device.reference();
  if (!reference_) return run_step(step, context_.device);
  struct Copy {
    int buffer;  // the outer one, if it lies within another
    std::vector<std::byte> before, fast;
  };
  std::vector<Copy> copies;
  Memory& memory = device->memory();
  const auto save = [&](int id, std::vector<std::byte>& to) {
    to.resize(static_cast<size_t>(plan.buffers[id].bytes));
    memory.download(to.data(), at(id), plan.buffers[id].bytes, "checked buffers");
  };
  const auto outer_of = [&](int id) { return plan.buffers[id].within < 0 ? id : plan.buffers[id].within; };
  step.each_written([&](int id) {
    // A step may name one twice, such as an output that is scaled in place.
    const int outer = outer_of(id);
    const bool known =
        std::any_of(copies.begin(), copies.end(), [&](const Copy& copy) { return copy.buffer == outer; });
    if (!known) save(outer, copies.emplace_back(Copy{outer, {}, {}}).before);
  });
  const auto numbers = [&] {
    const HostView<float> gradients = gradients_written();
    return std::vector<float>(gradients.begin(), gradients.end());
  };
  const auto place = [&](const std::vector<float>& from) {
    const HostView<float> gradients = gradients_written();
    std::copy(from.begin(), from.end(), gradients.begin());
  };
  const std::vector<float> gradients_before = numbers();
  run_step(step, context_.device);
  const std::vector<float> gradients_fast = numbers();
  for (Copy& copy : copies) {
    save(copy.buffer, copy.fast);
    memory.upload(at(copy.buffer), copy.before.data(), plan.buffers[copy.buffer].bytes);
  }
  place(gradients_before);
  run_step(step, *reference_);
  for (Copy& copy : copies) {
    const Buffer& outer = plan.buffers[copy.buffer];
    const int64_t rows = outer.rows == RowKind::tokens ? tokens : outer.rows == RowKind::head ? head_rows : 1;
    save(copy.buffer, copy.before);
    step.each_written([&](int id) {
      if (outer_of(id) != copy.buffer) return;
      const Compared part{rows, written_columns(step, id), outer.cols, plan.buffers[id].column};
      compare(step, plan.buffers[id].name, outer.dtype, copy.fast.data(), copy.before.data(), part, precision(),
              node(step).path);
    });
    memory.upload(at(copy.buffer), copy.fast.data(), outer.bytes);
  }
  if (gradients_fast.empty()) return;
  const auto count = static_cast<int64_t>(gradients_fast.size());
  compare(step, "adapter gradients", DType::f32, gradients_fast.data(), numbers().data(), {1, count, count},
          precision(), node(step).path);
  place(gradients_fast);
}

void Executor::check_operands(const Step& step) {
  if (!operand_check_) {
    std::vector<const Allocation*> memory = session_.memory_->all();
    for (const auto& adapter : session_.adapters_)
      for (const Allocation* own : updates() ? adapter->update_memory() : adapter->step_memory()) memory.push_back(own);
    operand_check_ = context_.device.operand_check(memory);
  }
  run_step(step, operand_check_ ? *operand_check_ : context_.device);
}

/// Destination of the steps' gradients: the adapter's, or those of each example.
HostView<float> Executor::gradients_written() const {
  Memory& memory = device->memory();
  const Allocation& examples = *session_.memory_->examples;
  if (examples.bytes() > 0)
    return {memory, examples.data().as<float>(), examples.bytes() / static_cast<int64_t>(sizeof(float)), "gradients"};
  if (session_.adapters_.empty()) return {};
  const Adapter& adapter = *session_.adapters_[0];
  return {memory, adapter.span(AdapterArray::gradient), adapter.spec().trained_elements, "gradients"};
}

/// Columns of a buffer that a step writes.
int64_t Executor::written_columns(const Step& step, int buffer) const {
  int64_t ranks = 0;
  for (const Step& each : members_of(step)) {
    if (std::find(each.by_rank.begin(), each.by_rank.end(), buffer) == each.by_rank.end()) continue;
    const std::vector<AdapterSite>& sites = plan.sites[each.node];
    for (size_t i = 0; i < sites.size(); ++i)
      for (const Term* term : sites[i].terms)
        if (const int64_t rank = term->facts().rank; rank > 0) ranks += Ranks{rank}.of(adapters[i]->rank);
  }
  return ranks > 0 ? ranks : plan.buffers[buffer].cols;
}

}  // namespace lowrank
