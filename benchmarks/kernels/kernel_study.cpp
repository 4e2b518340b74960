#include "kernel_study.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "backends/cpu/device.h"
#include "core/error.h"
#include "os/process_memory.h"
#include "quant/four_bit.h"
#include "runtime/arithmetic_peak.h"
#include "runtime/session.h"

namespace lowrank {
namespace {

/// A sample takes so long at least, so that the clock and the start of the threads do not show.
constexpr double kSampleSeconds = 4e-3;
/// Weights of one shape take turns until they take this many bytes: in a training step each layer has its own, and a
/// weight that stays in the second-level cache would be read too fast.
constexpr int64_t kWeightBytes = int64_t{24} << 20;
constexpr int kMostWeights = 64;

/// A kernel to be timed.
struct Trial {
  const char* name;
  double operations;
  std::function<void()> call;
};

KernelTimes best_of(Context& context, const KernelStudy& study, const std::vector<Trial>& trials) {
  const Clock clock(context.pool);
  const cpu::PeakLoop loop = cpu::peak_loop(cpu::device_of(context).kernels().level, study.precision);
  KernelTimes times;
  std::vector<int> calls;
  for (const Trial& trial : trials) {
    const double first = clock.seconds(trial.call);
    calls.push_back(static_cast<int>(std::clamp(std::ceil(kSampleSeconds / std::max(first, 1e-9)), 1.0, 1e4)));
    times.kernels.push_back({trial.name, trial.operations, first});
  }
  for (int round = 0; round < study.rounds; ++round) {
    if (loop != nullptr) times.peak = std::max(times.peak.value_or(0), peak_rate(clock, context.pool, loop));
    for (size_t i = 0; i < trials.size(); ++i) {
      const double seconds = clock.seconds([&] {
        for (int call = 0; call < calls[i]; ++call) trials[i].call();
      });
      times.kernels[i].seconds = std::min(times.kernels[i].seconds, seconds / calls[i]);
    }
  }
  return times;
}

/// Numbers by a linear congruential generator.
class Noise {
 public:
  uint32_t bits() { return state_ = state_ * 1664525u + 1013904223u; }
  int32_t below(int64_t count) { return static_cast<int32_t>(static_cast<uint64_t>(bits()) * count >> 32); }
  /// Numbers in [-bound, bound).
  void fill(void* data, DType type, int64_t count, float bound) {
    for (int64_t i = 0; i < count; ++i) {
      const float value = (static_cast<float>(bits() >> 8) * 0x1p-23f - 1.0f) * bound;
      if (type == DType::f32) static_cast<float*>(data)[i] = value;
      if (type == DType::bf16) static_cast<uint16_t*>(data)[i] = bf16_from_f32(value);
      if (type == DType::f16) static_cast<uint16_t*>(data)[i] = f16_from_f32(value);
    }
  }

 private:
  uint32_t state_ = 1;
};

/// Activations [rows, cols] in the operand type. Every page is written to: untouched memory is one page of zeros, which
/// is faster to read than any activation.
struct Activation {
  Activation(DType dtype, int64_t rows, int64_t cols)
      : type(dtype), width(cols), block(Category::activations, rows * cols * size_of(dtype)) {
    Noise().fill(block.data(), type, rows * cols, 1);
  }
  Matrix at() const { return {cpu::address_of(block.data()), type, width}; }

  DType type;
  int64_t width;
  Block block;
};

/// A weight of numbers as small as weights are.
Weight made_up(StorageFormat format, int64_t rows, int64_t cols) {
  if (is_blocks(format) && cols % layout_of(ggml_of(format)).elements != 0)
    fail("SHAPE", "a weight of [", rows, ", ", cols, "] cannot be stored as ", name_of(format), ", whose blocks have ",
         layout_of(ggml_of(format)).elements, " elements of a row; choose another format");
  Weight weight(format, rows, cols);
  Noise noise;
  if (!is_quantized(format) && !is_blocks(format)) {
    const DType type = format == StorageFormat::f32    ? DType::f32
                       : format == StorageFormat::bf16 ? DType::bf16
                                                       : DType::f16;
    noise.fill(weight.data(), type, rows * cols, 0.05f);
    return weight;
  }
  // Codes may be any. A scale inside a block is a 16-bit float at an even place, whose upper byte decides its size.
  auto* const codes = static_cast<uint8_t*>(weight.data());
  for (int64_t i = 0; i < weight_bytes(format, rows, cols); ++i)
    codes[i] = static_cast<uint8_t>(is_quantized(format) || i % 2 == 0 ? noise.bits() >> 24 : 0x1f);
  if (float* const absmax = weight.absmax()) std::fill_n(absmax, constants_bytes(format, rows, cols) / 4, 0.05f);
  if (is_double(format)) {
    uint8_t* const absmax = weight.absmax_codes();
    std::fill(weight.nested_absmax(), reinterpret_cast<float*>(absmax), 0.01f);
    std::fill_n(absmax, code_blocks(rows * cols), uint8_t{200});
    weight.set_absmax_offset(0.05f);
  }
  return weight;
}

DType operand_type(Precision precision) { return precision == Precision::f32 ? DType::f32 : DType::bf16; }

/// A model without layers: the embedding, the last norm, and the head that is tied to the embedding.
Graph head_alone(int64_t vocab, int64_t hidden) {
  Graph graph;
  graph.family = "head";
  graph.vocab_size = vocab;
  graph.weights = {{"table", vocab, hidden, WeightKind::table}, {"norm", 1, hidden, WeightKind::vector}};
  graph.values = {{hidden, ValueType::residual}, {hidden, ValueType::operand}};
  Node embedding, norm, head;
  embedding.op = Op::embedding;
  embedding.path = "embedding";
  embedding.weight = 0;
  embedding.out = 0;
  norm.op = Op::rms_norm;
  norm.path = "norm";
  norm.inputs = {0};
  norm.weight = 1;
  norm.eps = 1e-5f;
  norm.out = 1;
  head.op = Op::lm_head;
  head.path = "head";
  head.inputs = {1};
  head.weight = 0;
  graph.nodes = {embedding, norm, head};
  return graph;
}

KernelTimes time_linear(Context& context, const KernelStudy& study, const LinearStudy& linear) {
  // Not structured bindings: Clang captures none in lambdas before version 16.
  const int64_t tokens = linear.tokens, out = linear.out, in = linear.in, rank = linear.rank;
  const StorageFormat format = linear.format;
  for (const int64_t size : {tokens, out, in, rank})
    if (size < 1 || size > int64_t{1} << 24)
      fail("SHAPE", "a linear of [", out, ", ", in, "] with rank ", rank, " on ", tokens,
           " tokens cannot be timed; expected sizes from 1 to 2^24");
  Model model(head_alone(out, in));  // its graph does not matter
  model.weights.clear();
  for (int64_t bytes = 0; model.weights.size() < kMostWeights && bytes < kWeightBytes;
       bytes += weight_bytes(format, out, in))
    model.weights.push_back(made_up(format, out, in));
  const StoredWeights store(model);
  cpu::CpuDevice device(context.pool, cpu::device_of(context).kernels(), cpu::device_of(context).sizes());
  const auto placed = device.place(store);
  device.use(placed.get());

  const Precision precision = study.precision;
  const DType type = operand_type(precision);
  const Activation x(type, tokens, in), y(type, tokens, out), dy(type, tokens, out), dx(type, tokens, in);
  const Activation h(type, tokens, rank), dh(type, tokens, rank);
  const Activation da(DType::f32, rank, in), db(DType::f32, out, rank);
  Segment forward{x.at(), {out, in, 0}}, backward{dy.at(), {out, in, 0}};
  const Kernel kernels[] = {
      GemmNt{precision, tokens, out, {&forward, 1}, {y.at()}}, GemmNn{precision, tokens, in, {&backward, 1}, {dx.at()}},
      ReduceTokens{precision, tokens, dh.at(), rank, x.at(), in, 1, da.at().data.as<float>(), in, false},
      ReduceTokens{precision, tokens, h.at(), rank, dy.at(), out, 1, db.at().data.as<float>(), rank, true}};
  int64_t bytes = 0;
  for (const Kernel& kernel : kernels) bytes = std::max(bytes, device.sizes().workspace(kernel));
  const Block workspace(Category::workspace, bytes);
  int turn = 0;
  const auto launch = [&](const Kernel& kernel) {
    forward.w.weight = backward.w.weight = turn++ % store.count();
    device.launch(kernel, cpu::address_of(workspace.data()));
  };
  const double product = 2.0 * static_cast<double>(tokens) * static_cast<double>(out) * static_cast<double>(in);
  const double factors = 2.0 * static_cast<double>(tokens) * static_cast<double>(rank) * static_cast<double>(in + out);
  return best_of(context, study,
                 {{"forward", product, [&] { launch(kernels[0]); }},
                  {"input_gradient", product, [&] { launch(kernels[1]); }},
                  {"adapter_gradient", factors, [&] {
                     launch(kernels[2]);
                     launch(kernels[3]);
                   }}});
}

KernelTimes time_attention(Context& context, const KernelStudy& study, const AttentionStudy& attention) {
  const auto& [sequences, length, heads, kv_heads, dim, window] = attention;
  const auto fits = [](int32_t size) { return size >= 1 && size <= 1 << 20; };
  if (!fits(sequences) || !fits(length) || !fits(heads) || !fits(kv_heads) || !fits(dim) || heads % kv_heads != 0 ||
      window < 1 || int64_t{sequences} * length > 1 << 24)
    fail("SHAPE", "attention of ", heads, " heads and ", kv_heads, " key-value heads of ", dim, " on ", sequences,
         " sequences of ", length,
         " tokens cannot be timed; expected positive sizes, and heads that are a multiple "
         "of the key-value heads");
  const int64_t tokens = int64_t{sequences} * length, width = int64_t{heads} * dim, kv_width = int64_t{kv_heads} * dim;
  const DType type = operand_type(study.precision);
  const Activation q(type, tokens, width), k(type, tokens, kv_width), v(type, tokens, kv_width);
  const Activation out(type, tokens, width), dout(type, tokens, width), lse(DType::f32, tokens, heads);
  const Activation dq(type, tokens, width), dk(type, tokens, kv_width), dv(type, tokens, kv_width);
  std::vector<int32_t> cu;
  for (int32_t s = 0; s <= sequences; ++s) cu.push_back(s * length);
  const Heads shape{heads, kv_heads, dim, window, 1 / std::sqrt(static_cast<float>(dim))};
  const Ptr<float> sums = cpu::address_of(lse.block.data<float>());
  const Kernel forward = Attention{tokens, tokens, shape, cu, q.at(), k.at(), v.at(), out.at(), sums};
  const Kernel backward = AttentionBackward{tokens,   shape, cu,        q.at(),  k.at(),  v.at(),
                                            out.at(), sums,  dout.at(), dq.at(), dk.at(), dv.at()};
  cpu::CpuDevice& device = cpu::device_of(context);
  const Block workspace(Category::workspace,
                        std::max(device.sizes().workspace(forward), device.sizes().workspace(backward)));
  const Ptr<std::byte> room = cpu::address_of(workspace.data());
  // Pairs of a query and a key that it sees.
  const double near = std::min(length, window), pairs = near * (near + 1) / 2 + (length - near) * near;
  const double product = 2.0 * static_cast<double>(width) * sequences * pairs;
  return best_of(context, study,
                 {{"forward", 2 * product, [&] { device.launch(forward, room); }},
                  {"backward", 5 * product, [&] { device.launch(backward, room); }}});
}

/// Training steps of the model without layers, of which the norm trains, so that the gradient goes through the head.
/// The other steps are a thousandth of the work.
KernelTimes time_head(Context& context, const KernelStudy& study, const HeadStudy& subject) {
  const auto& [tokens, vocab, hidden, format] = subject;
  for (const int64_t size : {tokens, vocab, hidden})
    if (size < 1 || size > int64_t{1} << 24)
      fail("SHAPE", "a head of [", vocab, ", ", hidden, "] on ", tokens,
           " tokens cannot be timed; expected sizes from 1 to 2^24");
  const auto model = std::make_shared<Model>(head_alone(vocab, hidden));
  model->weights[0] = made_up(format, vocab, hidden);
  model->weights[1] = made_up(StorageFormat::f32, 1, hidden);
  AdapterSpec spec;
  ParameterSpec norm;
  norm.name = "norm";
  norm.rows = 1;
  norm.cols = hidden;
  norm.trained = true;
  spec.parameters = {norm};
  spec.copies = {{"norm", 0}};
  spec.trainable = true;
  const auto adapter = std::make_shared<Adapter>(std::move(spec), context.device.memory());
  copy_weight_into(context, *model, "norm", *adapter, 0);
  PlanOptions options;
  options.tokens = options.head_rows = tokens;
  options.sequences = 1;
  options.precision = study.precision;
  Session session(context, model, {adapter}, {{"train", options}});
  TrainInput input;
  Noise noise;
  for (int64_t i = 0; i < tokens; ++i) {
    input.tokens.push_back(noise.below(vocab));
    input.labels.push_back(noise.below(vocab));
  }
  input.cu_seqlens = {0, static_cast<int32_t>(tokens)};
  input.loss_scale = 1 / static_cast<float>(tokens);
  const auto step = [&] { session.train_step(context, "train", input, nullptr); };

  std::optional<int64_t> extra;
  if (os::reset_peak_resident()) {
    const int64_t before = os::resident_memory().resident;
    step();
    extra = os::resident_memory().peak - before;
  }
  const double product = 2.0 * static_cast<double>(tokens) * static_cast<double>(vocab) * static_cast<double>(hidden);
  KernelTimes times = best_of(context, study, {{"forward_backward", 2 * product, step}});
  times.extra_bytes = extra;
  return times;
}

}  // namespace

KernelTimes time_kernels(Context& context, const KernelStudy& study) {
  struct Visitor {
    Context& context;
    const KernelStudy& study;
    KernelTimes operator()(const LinearStudy& linear) { return time_linear(context, study, linear); }
    KernelTimes operator()(const AttentionStudy& attention) { return time_attention(context, study, attention); }
    KernelTimes operator()(const HeadStudy& head) { return time_head(context, study, head); }
  };
  return std::visit(Visitor{context, study}, study.subject);
}

}  // namespace lowrank
