#include "backends/cpu/device.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backends/cpu/adapters.h"
#include "backends/cpu/operand_check.h"
#include "backends/cpu/ops_common.h"
#include "core/error.h"
#include "quant/half.h"

namespace lowrank::cpu {
namespace {

Matrix matrix(const lowrank::Matrix& m) { return {host(m.data), m.dtype, m.ld}; }
Operand operand(const lowrank::Matrix& m) { return {host(m.data), m.dtype, m.ld}; }

PairFactors factors_of(const Pair& pair) {
  return {pair.rows, pair.cols, pair.rank, pair.rank2, host(pair.b), host(pair.a), host(pair.b2), host(pair.a2)};
}

/// Sums of blocks of a long reduction go to the output itself where that is fp32.
int64_t product_workspace(Precision precision, int64_t m, int64_t n, std::span<const lowrank::Segment> segments,
                          const lowrank::Output& to, int threads, bool transposed) {
  constexpr size_t kUsual = 32;
  int64_t lengths[kUsual];
  std::vector<int64_t> more;
  std::span<int64_t> reductions(lengths, std::min(kUsual, segments.size()));
  if (segments.size() > kUsual) {
    more.resize(segments.size());
    reductions = more;
  }
  for (size_t i = 0; i < segments.size(); ++i) reductions[i] = transposed ? segments[i].w.cols : segments[i].w.rows;
  const int64_t partial_sums = to.y.dtype == DType::f32 ? 0 : m;
  return gemm_workspace(precision, partial_sums, n, reductions, threads);
}

struct Workspace {
  int threads;

  int64_t operator()(const GemmNt& k) const {
    return product_workspace(k.precision, k.m, k.n, k.segments, k.to, threads, true);
  }
  int64_t operator()(const GroupedGemmNt& k) const {
    int64_t most = 0;
    for (const GemmNt& each : k.products) most = std::max(most, (*this)(each));
    return most;
  }
  int64_t operator()(const GemmNn& k) const {
    return product_workspace(k.precision, k.m, k.n, k.segments, k.to, threads, false);
  }
  int64_t operator()(const ReduceTokens& k) const { return reduce_tokens_workspace(k.tokens, k.r, k.n, threads); }
  template <class Other>
  int64_t operator()([[maybe_unused]] const Other& k) const {
    if constexpr (requires { Other::kNeedsRoom; }) return cpu::workspace(k, threads);
    return 0;
  }
};

class InPlace final : public PlacedWeights {
 public:
  explicit InPlace(const WeightStore& weights) : store(weights) {}
  Ptr<float> vector(int weight) const override {
    return address_of(static_cast<const float*>(store.view(weight).data));
  }
  const WeightStore& store;
};

/// Copies rows of a table to `out` [count, cols].
void look_up(Pool& pool, const OpKernels& ops, const WeightView& table, int64_t count, const int32_t* ids,
             const Matrix& out) {
  const bool plain =
      table.format == WeightFormat::f32 || table.format == WeightFormat::bf16 || table.format == WeightFormat::f16;
  if (!plain) {
    pool.for_range(count, std::max<int64_t>(1, 16384 / table.cols), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        decode_row(table, ids[row], 0, table.cols, static_cast<float*>(out.data) + row * out.ld);
    });
    return;
  }
  const DType dtype = table.format == WeightFormat::f32    ? DType::f32
                      : table.format == WeightFormat::bf16 ? DType::bf16
                                                           : DType::f16;
  ops.embedding(pool, count, table.cols, ids, {const_cast<void*>(table.data), dtype, table.ld}, out);
}

}  // namespace

WeightView view(const Cpu& cpu, const Factor& w) {
  if (w.weight >= 0) {
    const WeightView whole = cpu.weights->view(w.weight);
    return w.first == 0 && w.rows == whole.rows ? whole : rows_of(whole, w.first, w.rows);
  }
  WeightView dense;
  dense.rows = w.rows;
  dense.cols = w.cols;
  dense.data = host(w.dense);
  dense.ld = w.ld;
  return dense;
}

CpuSizes::CpuSizes(int threads) : threads_(threads) {
  if (threads < 1) fail("CONFIG", "plan: threads is ", threads, "; expected at least 1");
}

int64_t CpuSizes::workspace(const Kernel& kernel) const { return std::visit(Workspace{threads_}, kernel); }

std::unique_ptr<PlacedWeights> CpuDevice::place(const WeightStore& weights) {
  weights.expect_loaded();
  return std::make_unique<InPlace>(weights);
}

void CpuDevice::use(const PlacedWeights* weights) {
  weights_ = weights == nullptr ? nullptr : &static_cast<const InPlace*>(weights)->store;
}

std::unique_ptr<Device> CpuDevice::reference() {
  auto device = std::make_unique<CpuDevice>(pool_, cpu::kernels(Level::reference), sizes_);
  device->weights_ = weights_;
  return device;
}

std::unique_ptr<Device> CpuDevice::operand_check(const std::vector<const Allocation*>& memory) {
  OperandCheck::Spans spans;
  for (const Allocation* own : memory)
    if (own->bytes() > 0) spans.emplace_back(host(own->data()), static_cast<size_t>(own->bytes()));
  return std::make_unique<OperandCheck>(*this, std::move(spans));
}

/// One overload a kernel that has not moved to the table.
struct CpuDevice::Launch {
  CpuDevice& device;
  std::byte* room;
  Pool& pool = device.pool_;
  const OpKernels& ops = device.kernels_.ops;
  const GemmKernels& gemm = device.kernels_.gemm;

  WeightView view(const Factor& w) const { return cpu::view({pool, room, device.weights_}, w); }
  std::span<const Segment> segments(std::span<const lowrank::Segment> given) const {
    device.segments_.clear();
    for (const lowrank::Segment& s : given) device.segments_.push_back({operand(s.x), view(s.w)});
    return device.segments_;
  }
  static Output output(const lowrank::Output& to) {
    return {host(to.y.data), to.y.dtype, to.y.ld, host(to.bias), host(to.residual), to.residual_ld};
  }

  template <class K>
    requires requires(const Cpu& on, const K& k) { cpu::reference(on, k); }
  void operator()(const K&) const {}

  void operator()(const GemmNt& k) const {
    gemm.gemm_nt(pool, k.precision, k.m, k.n, segments(k.segments), output(k.to), room);
  }
  void operator()(const GroupedGemmNt& k) const {
    for (const GemmNt& each : k.products) (*this)(each);
  }
  void operator()(const GemmNn& k) const {
    gemm.gemm_nn(pool, k.precision, k.m, k.n, segments(k.segments), output(k.to), room);
  }
  void operator()(const ReduceTokens& k) const {
    gemm.reduce_tokens(pool, k.precision, k.tokens, operand(k.u), k.r, operand(k.x), k.n, k.scale, host(k.out), k.ld,
                       k.transposed, room);
  }
  void operator()(const DecodeRows& k) const {
    const WeightView table = view(k.table);
    const int32_t* const ids = host(k.ids);
    const Matrix out = matrix(k.out);
    const int64_t at_once = k.table.weight < 0 ? 0 : device.weights_->gathered_at_once(k.table.weight);
    if (at_once == 0) return look_up(pool, ops, table, k.tokens, ids, out);
    for (int64_t begin = 0; begin < k.tokens; begin += at_once) {
      const int64_t count = std::min(at_once, k.tokens - begin);
      const auto held = device.weights_->gather(k.table.weight, {ids + begin, static_cast<size_t>(count)});
      look_up(pool, ops, table, count, ids + begin, matrix(k.out.rows(begin)));
    }
  }
  void operator()(const AddPair& k) const {
    const WeightView base = view(k.base);
    gemm.add_pair(pool, factors_of(k.pair), k.base.rows > 0 ? &base : nullptr, k.scale, host(k.row_gains), host(k.out));
  }
  void operator()(const SplitPair& k) const {
    gemm.split_pair(pool, factors_of(k.pair), host(k.row_gains), host(k.g), host(k.second));
  }

  void operator()(const GatherColumns& k) const { gather_columns(pool, k); }
  void operator()(const ScatterColumns& k) const { scatter_columns(pool, k); }
};

void CpuDevice::launch(const Kernel& kernel, Ptr<std::byte> workspace) {
#if defined(__SANITIZE_ADDRESS__)
  // Exactly the promised size, so that a kernel that takes more is detected.
  const Scratch room(sizes_.workspace(kernel));
  workspace = room.data();
#endif
  const Run own = (*kernels_.table)[kernel.index()], run = own != nullptr ? own : table_reference[kernel.index()];
  if (run == nullptr) return std::visit(Launch{*this, host(workspace)}, kernel);
  run({pool_, host(workspace), weights_}, value_of(kernel));
}

}  // namespace lowrank::cpu
