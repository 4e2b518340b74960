// Training on an NVIDIA card without Node: what is there, and how long steps take, as a whole and kernel by kernel.
//
//   lowrank_card_bench probe
//   lowrank_card_bench step [--shape 8b|1b|tiny] [--tokens N] [--recompute] [--steps N] [--rank N]
//   lowrank_card_bench kernels [the same]        waits for every kernel and tells the time of each kind
//
// LOWRANK_LIBCUDA and LOWRANK_CUDA_PACK say where driver and kernels are, as in the addon. Weights are random: the
// losses mean nothing, the work is that of a real model of the shape.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include "backends/cuda/device.h"
#include "device/null.h"
#include "model.h"
#include "optim/step.h"
#include "runtime/dry_run.h"
#include "runtime/session.h"

using namespace lowrank;

namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

const std::map<std::string, bench::Shape> kShapes = {
    {"8b", {4096, 14336, 32, 32, 8, 128256}},
    {"1b", {2048, 8192, 16, 32, 8, 128256}},
    {"tiny", {64, 128, 2, 4, 2, 512}},
};

struct Options {
  std::string shape = "8b";
  int64_t tokens = 2048, steps = 5, rank = 16;
  bool recompute = false;
};

Options options_of(int argc, char** argv) {
  Options options;
  for (int i = 2; i < argc; ++i) {
    const std::string flag = argv[i];
    const auto value = [&] {
      if (i + 1 == argc) throw std::runtime_error(flag + ": a value is missing");
      return std::string(argv[++i]);
    };
    if (flag == "--shape")
      options.shape = value();
    else if (flag == "--tokens")
      options.tokens = std::stoll(value());
    else if (flag == "--steps")
      options.steps = std::stoll(value());
    else if (flag == "--rank")
      options.rank = std::stoll(value());
    else if (flag == "--recompute")
      options.recompute = true;
    else
      throw std::runtime_error(flag + ": expected --shape, --tokens, --steps, --rank or --recompute");
  }
  if (!kShapes.contains(options.shape))
    throw std::runtime_error("--shape " + options.shape + ": expected 8b, 1b or tiny");
  return options;
}

/// Waits for every kernel, and counts its time and work.
class TimedDevice final : public Device {
 public:
  TimedDevice(cuda::CudaDevice& device, std::vector<NullDevice::HeldWeight> weights)
      : device_(device), counts_(device.sizes(), std::move(weights)) {}

  const KernelSizes& sizes() const override { return device_.sizes(); }
  Memory& memory() override { return device_.memory(); }
  std::unique_ptr<PlacedWeights> place(const WeightStore& weights) override { return device_.place(weights); }
  void use(const PlacedWeights* weights) override { device_.use(weights); }
  int64_t rows_at_once(int weight, int64_t rows) const override { return device_.rows_at_once(weight, rows); }
  std::unique_ptr<Hold> hold(const WeightRows& rows) override { return device_.hold(rows); }
  void launch(const Kernel& kernel, Ptr<std::byte> workspace) override {
    counts_.launch(kernel, workspace);
    device_.finish();
    const auto start = Clock::now();
    device_.launch(kernel, workspace);
    device_.finish();
    seconds_[name_of(kernel)] += seconds_since(start);
  }

  void clear() {
    seconds_.clear();
    counts_.counts = {};
  }
  void print() const {
    double all = 0;
    std::vector<std::pair<double, std::string_view>> order;
    for (const auto& [name, seconds] : seconds_) {
      all += seconds;
      order.push_back({seconds, name});
    }
    std::sort(order.rbegin(), order.rend());
    std::printf("%-24s %9s %9s %7s %11s %9s\n", "kernel", "launches", "ms", "share", "TFLOP/s", "GB/s");
    for (const auto& [seconds, name] : order) {
      const KernelCounts& work = counts_.counts.kernels.at(name);
      std::printf("%-24s %9lld %9.2f %6.1f%% %11.1f %9.0f\n", std::string(name).c_str(),
                  static_cast<long long>(work.launches), 1e3 * seconds, 100 * seconds / all,
                  2 * work.multiply_adds / seconds / 1e12, static_cast<double>(work.bytes_moved) / seconds / 1e9);
    }
    std::printf("%-24s %9s %9.2f\n", "all", "", 1e3 * all);
  }

 private:
  cuda::CudaDevice& device_;
  NullDevice counts_;
  std::map<std::string_view, double> seconds_;
};

int probe() {
  const cuda::Probe found = cuda::probe();
  std::printf("driver for CUDA %s\n", found.driver ? cuda::version_text(found.version).c_str() : "none");
  for (const std::string& reason : found.reasons) std::printf("%s\n", reason.c_str());
  for (const cuda::FoundCard& card : found.cards)
    std::printf("cuda:%d %s, sm_%d, %d multiprocessors, %.1f GiB%s%s\n", card.number, card.name.c_str(), card.card.sm,
                card.card.multiprocessors, static_cast<double>(card.bytes) / (1 << 30), card.reason.empty() ? "" : ": ",
                card.reason.c_str());
  return found.usable() == nullptr ? 1 : 0;
}

TrainInput batch_of(const Options& options, int64_t vocab, int64_t step) {
  TrainInput input;
  for (int64_t i = 0; i < options.tokens; ++i) {
    input.tokens.push_back(static_cast<int32_t>((i * 7919 + step * 131) % vocab));
    input.labels.push_back(static_cast<int32_t>((i * 104729 + step) % vocab));
  }
  input.cu_seqlens = {0, static_cast<int32_t>(options.tokens)};
  input.loss_scale = 1.0f / static_cast<float>(options.tokens);
  input.seed = 1;
  input.step = static_cast<uint64_t>(step);
  return input;
}

int train(const Options& options, bool by_kernel) {
  const cuda::Probe found = cuda::probe();
  if (found.usable() == nullptr) return probe();
  const bench::Shape& shape = kShapes.at(options.shape);
  const char* const pack = std::getenv("LOWRANK_CUDA_PACK");
  if (pack == nullptr) throw std::runtime_error("LOWRANK_CUDA_PACK does not say where the kernels are");
  cuda::CudaDevice card(found.driver, *found.usable(), pack);
  std::printf("%s on %s, %lld tokens, rank %lld, %s\n", options.shape.c_str(), found.usable()->name.c_str(),
              static_cast<long long>(options.tokens), static_cast<long long>(options.rank),
              options.recompute ? "blocks recomputed" : "activations kept");
  auto start = Clock::now();
  const auto model = bench::model_of(shape);
  const Graph& graph = model->graph;
  std::vector<StorageFormat> formats;
  for (const Weight& weight : model->weights) formats.push_back(weight.format());
  TimedDevice timed(card, held_weights(graph, formats));
  Device& device = by_kernel ? static_cast<Device&>(timed) : card;
  Pool pool(1);
  Context context{pool, device};
  const AdapterSpec spec = bench::lora_of(graph, options.rank);
  const auto adapter = std::make_shared<Adapter>(spec, device.memory());
  for (int i = 0; i < static_cast<int>(spec.parameters.size()); ++i) {
    const HostView<float> values = adapter->edit(i);
    fill_normal(values.data(), values.size(), 0.01f, 5, spec.parameters[static_cast<size_t>(i)].name);
  }
  PlanOptions plan;
  plan.tokens = plan.head_rows = options.tokens;
  plan.sequences = 1;
  plan.precision = Precision::bf16;
  plan.recompute = options.recompute;
  plan.logits_bytes = int64_t{256} << 20;
  Session session(context, model, {adapter}, {{"train", plan}});
  std::printf("ready after %.1f s\n", seconds_since(start));

  OptimizerStep update;
  update.kind = OptimizerKind::adamw;
  update.beta1 = 0.9f;
  update.beta2 = 0.999f;
  update.epsilon = 1e-8f;
  update.max_grad_norm = 1;
  update.groups = {{1e-4f, 0.0f}};
  std::vector<double> times;
  for (int64_t step = 1; step <= options.steps + 1; ++step) {
    timed.clear();
    start = Clock::now();
    const LossResult loss = session.train_step(context, "train", batch_of(options, shape.vocab, step), {});
    update.step = step;
    const double norm = optimizer_step(device, *adapter, update);
    card.finish();
    const double seconds = seconds_since(start);
    std::printf("step %lld: loss %.4f, gradient norm %.4g, %.1f ms\n", static_cast<long long>(step),
                loss.loss_sum / static_cast<double>(options.tokens), norm, 1e3 * seconds);
    if (!std::isfinite(loss.loss_sum) || !std::isfinite(norm)) throw std::runtime_error("a step diverged");
    if (step > 1) times.push_back(seconds);  // the first loads the kernels
  }
  if (by_kernel) timed.print();
  std::sort(times.begin(), times.end());
  const double median = times[times.size() / 2];
  int64_t bytes = 0;
  for (int category = 0; category < kCategories; ++category) bytes += allocated_bytes(static_cast<Category>(category));
  std::printf("median %.1f ms a step, %.0f tokens/s; %.2f GiB allocated on host and card\n", 1e3 * median,
              static_cast<double>(options.tokens) / median, static_cast<double>(bytes) / (1 << 30));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string command = argc > 1 ? argv[1] : "";
    if (command == "probe") return probe();
    if (command == "step") return train(options_of(argc, argv), false);
    if (command == "kernels") return train(options_of(argc, argv), true);
    std::fprintf(stderr, "expected probe, step or kernels\n");
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
