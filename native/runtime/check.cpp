// LOWRANK_CHECK: every step again with the reference kernels, or its kernels held to the operands that they name.
#include <algorithm>
#include <cmath>

#include "adapters/term.h"
#include "core/error.h"
#include "runtime/execute.h"

namespace lowrank {
namespace {

/// The first `cols` of `ld` columns of some rows.
struct Compared {
  int64_t rows, cols, ld;
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
    for (int64_t i = row * part.ld; i < row * part.ld + part.cols; ++i) {
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
  struct Copy {
    int buffer;
    std::vector<std::byte> before, fast;
  };
  std::vector<Copy> copies;
  const auto bytes_of = [&](int id) { return static_cast<size_t>(plan.buffers[id].bytes); };
  step.each_written([&](int id) { copies.push_back({id, {host(id), host(id) + bytes_of(id)}, {}}); });
  const auto [gradients, trained] = gradients_written();
  const std::vector<float> gradients_before(gradients, gradients + trained);
  run_step(step, device_);
  const std::vector<float> gradients_fast(gradients, gradients + trained);
  for (Copy& copy : copies) {
    copy.fast.assign(host(copy.buffer), host(copy.buffer) + bytes_of(copy.buffer));
    std::copy(copy.before.begin(), copy.before.end(), host(copy.buffer));
  }
  std::copy(gradients_before.begin(), gradients_before.end(), gradients);
  cpu::CpuDevice reference(context_.pool, cpu::kernels(cpu::Level::reference), device_.sizes(), &stored_);
  run_step(step, reference);
  for (Copy& copy : copies) {
    const Buffer& buffer = plan.buffers[copy.buffer];
    const int64_t rows = buffer.rows == RowKind::tokens ? tokens : buffer.rows == RowKind::head ? head_rows : 1;
    const Compared part{rows, written_columns(step, copy.buffer), buffer.cols};
    compare(step, buffer.name, buffer.dtype, copy.fast.data(), host(copy.buffer), part, precision(), node(step).path);
    std::copy(copy.fast.begin(), copy.fast.end(), host(copy.buffer));
  }
  if (gradients) {
    const auto count = static_cast<int64_t>(trained);
    compare(step, "adapter gradients", DType::f32, gradients_fast.data(), gradients, {1, count, count}, precision(),
            node(step).path);
    std::copy(gradients_fast.begin(), gradients_fast.end(), gradients);
  }
}

void Executor::check_operands(const Step& step) {
  if (!operand_check_) {
    cpu::OperandCheck::Memory memory;
    for (const DeviceMemory* own : session_.memory_->all())
      if (own->bytes() > 0) memory.emplace_back(cpu::host(own->data()), static_cast<size_t>(own->bytes()));
    for (const auto& adapter : session_.adapters_)
      for (const std::span<std::byte> span : adapter->memory()) memory.push_back(span);
    operand_check_.emplace(device_, std::move(memory));
  }
  run_step(step, *operand_check_);
}

/// What steps add gradients to: the adapter's, or those of each example.
std::pair<float*, size_t> Executor::gradients_written() const {
  const DeviceMemory& examples = *session_.memory_->examples;
  if (examples.bytes() > 0)
    return {cpu::host(examples.data().as<float>()), static_cast<size_t>(examples.bytes()) / sizeof(float)};
  if (session_.adapters_.empty()) return {nullptr, 0};
  const Adapter& adapter = *session_.adapters_[0];
  float* const span = adapter.span(AdapterArray::gradient);
  return {span, span ? static_cast<size_t>(adapter.spec().trained_elements) : 0};
}

/// Columns of a buffer that a step writes: of h and of the gradient at it as many as ranks are in use.
int64_t Executor::written_columns(const Step& step, int buffer) const {
  const std::vector<AdapterSite>& sites = plan.sites[step.node];
  const bool ranks = buffer == step.aux || (step.term != nullptr && buffer == step.y);
  if (!ranks || sites.empty() || sites[0].terms.empty()) return plan.buffers[buffer].cols;
  const int64_t rank = sites[0].terms[0]->facts().rank;
  return rank == 0 ? plan.buffers[buffer].cols : Ranks{rank}.of(adapters[0]->rank);
}

}  // namespace lowrank
