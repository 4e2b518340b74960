// The exports of the addon to JavaScript. No maths here; the list of exports, with their
// meaning, is lib/native/addon.ts.
#include <algorithm>
#include <utility>

#include "adapters/check.h"
#include "addon/arguments.h"
#include "addon/convert.h"
#include "addon/handle.h"
#include "addon/ranks.h"
#include "addon/values.h"
#include "backends/cpu/device.h"
#include "backends/cuda/device.h"
#include "core/remarks.h"
#include "core/version.h"
#include "ops/ops.h"
#include "os/cores.h"
#include "os/file.h"
#include "os/library.h"
#include "os/mapped_file.h"
#include "os/process_memory.h"
#include "runtime/arithmetic_peak.h"
#include "runtime/dry_run.h"

namespace lowrank::addon {
namespace {

Napi::Value dump(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const auto session = session_of(info[0]);
    const Plan& p = session->plan(info[1].ToString());
    const std::string what = info[2].ToString();
    const std::string text = what == "graph"   ? session->graph().to_text()
                             : what == "arena" ? p.arena_text()
                             : what == "times" ? session->times_text()
                                               : p.steps_text(session->graph());
    return Napi::String::New(info.Env(), text);
  });
}

Napi::Value cpu_info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const Engine& engine = Engine::instance();
    CpuInfo found{.isa = cpu::name_of(engine.level()),
                  .threads = engine.threads(),
                  .cores = os::usable_cores(),
                  .prefers_bf16 = cpu::prefers_bf16(engine.level())};
    for (const cpu::Level level : cpu::kLevels)
      if (cpu::available(level)) found.levels.emplace_back(cpu::name_of(level));
    return to_value(env, found);
  });
}

Napi::Value cuda_info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const CudaInfo found = Engine::instance().gpus().info();
    CudaReport report{found.available, found.version == 0 ? "" : cuda::version_text(found.version), found.reasons, {}};
    for (const cuda::FoundCard& each : found.cards) {
      const auto& [sm, multiprocessors, shared_bytes, decoded, least, side] = each.card;
      report.cards.push_back(
          {{sm, multiprocessors, shared_bytes}, each.number, each.name, each.bus, each.bytes, each.reason});
    }
    return to_value(env, report);
  });
}

/// @param info a device
Napi::Value packed_kernels(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const auto [path, images] = Engine::instance().gpus().compressed(info[0].ToString());
    PackedKernels found{path, {}};
    for (const auto& [offset, stored, bytes] : images) found.images.push_back({offset, stored, bytes});
    return to_value(info.Env(), found);
  });
}

/// @param info inflated images
Napi::Value give_kernels(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    cuda::Inflated inflated;
    for (InflatedImage& image : Given(info[0], "images").as<std::vector<InflatedImage>>())
      inflated[image.offset] = std::move(image.bytes);
    Engine::instance().gpus().give(std::move(inflated));
    return info.Env().Undefined();
  });
}

Napi::Value remarks(const Napi::CallbackInfo& info) { return to_value(info.Env(), take_remarks()); }

Napi::Value configure(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const Fields fields(info[0], "options");
    const int64_t threads = fields.get<int64_t>("threads", 0);
    if (threads < 0 || threads > 1024) fail("CONFIG", "threads is ", threads, "; expected 1 to 1024");
    std::optional<cpu::Level> level;
    if (fields.has("isa")) {
      const std::string name = fields.get<std::string>("isa");
      std::string known;
      for (const cpu::Level each : cpu::kLevels) {
        if (name == cpu::name_of(each)) level = each;
        known += (known.empty() ? "" : ", ") + std::string(cpu::name_of(each));
      }
      if (!level) fail("CONFIG", "isa is '", name, "'; expected one of ", known);
    }
    Engine::instance().configure(static_cast<int>(threads), level);
    if (fields.has("cudaPack")) Engine::instance().gpus().set_pack(fields.get<std::string>("cudaPack"));
    return info.Env().Undefined();
  });
}

/// @param info a kind of memory, or nothing for all
Napi::Value allocated(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    std::optional<Place> place;
    if (!info[0].IsUndefined()) place = Given(info[0], "place").as<Place>();
    Napi::Object object = Napi::Object::New(info.Env());
    for (int c = 0; c < kCategories; ++c) {
      const auto category = static_cast<Category>(c);
      object.Set(name_of(category),
                 number(info.Env(), place ? allocated_bytes(category, *place) : allocated_bytes(category)));
    }
    return object;
  });
}

Napi::Value resident_bytes(const Napi::CallbackInfo& info) {
  const os::ResidentMemory memory = os::resident_memory();
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("rss", number(info.Env(), memory.resident));
  object.Set("peak", number(info.Env(), memory.peak));
  object.Set("anonymous", number(info.Env(), memory.anonymous));
  object.Set("fileBacked", number(info.Env(), memory.file_backed));
  return object;
}

Napi::Value cached_bytes(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return number(info.Env(), os::MappedFile(info[0].As<Napi::String>().Utf8Value()).resident_bytes());
  });
}

Napi::Value lock_file(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return Napi::String::New(info.Env(), name_of(os::lock_file(info[0].ToNumber().Int32Value())));
  });
}

Napi::Value reset_peak(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), os::reset_peak_resident());
}

/// Sizes for the CPU with a number of threads, or for a card that need not be there: {sm, multiprocessors,
/// sharedBytes}.
std::unique_ptr<const KernelSizes> to_sizes(Napi::Value value) {
  if (value.IsObject()) {
    const auto [sm, multiprocessors, shared_bytes] = Given(value, "card").as<CardSizes>();
    cuda::Card card;
    card.sm = sm;
    card.multiprocessors = multiprocessors;
    card.shared_bytes = shared_bytes;
    return std::make_unique<cuda::CudaSizes>(card);
  }
  return Engine::instance().sizes("cpu",
                                  value.IsNumber() ? std::optional(value.ToNumber().Int32Value()) : std::nullopt);
}

/// Plans of a model that has no weights yet: graph, formats, adapters, plans, threads or a card.
struct Shapes {
  explicit Shapes(const Napi::CallbackInfo& info) : graph(to_graph(info[0])), sizes(to_sizes(info[4])) {
    check_graph(graph);
    formats = to_formats(graph, info[1]);
    for (const Given& each : Given(info[2], "adapters").list()) {
      const Fields item(each);
      specs.push_back(to_adapter_spec(item.get("spec")));
      specs.back().trainable = item.get<bool>("trainable", false);
      specs.back().state = item.get<StateSpec>("state", {});
      check_adapter(specs.back());
    }
    plans = to_plans(info[3]);
  }
  Shapes(const Shapes&) = delete;
  Shapes& operator=(const Shapes&) = delete;

  Graph graph;
  const std::unique_ptr<const KernelSizes> sizes;
  std::vector<StorageFormat> formats;
  std::vector<AdapterSpec> specs;
  std::map<std::string, PlanOptions> plans;
};

Napi::Value plan(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const Shapes shapes(info);
    const auto& [graph, sizes, formats, specs, options] = shapes;
    std::vector<const AdapterSpec*> adapters;
    for (const AdapterSpec& spec : specs) adapters.push_back(&spec);
    std::map<std::string, Plan> plans;
    for (const auto& [name, each] : options) plans.emplace(name, make_plan(*sizes, graph, adapters, each));
    const std::optional<int64_t> paged = to_paged(info[5]);
    const bool on_card = info[4].IsObject();
    if (!paged) return from_report(env, report_plans(graph, formats, adapters, plans, {on_card}));
    if (on_card) {
      const WeightStream stream = stream_weights(graph, formats, *paged);
      return from_report(env, report_plans(graph, formats, adapters, plans, {on_card, nullptr, &stream}));
    }
    PageSpans spans(graph, WeightLayout(graph, formats));
    const int64_t budget = spans.budget(*paged);
    const Paging paging{std::move(spans), budget};
    return from_report(env, report_plans(graph, formats, adapters, plans, {on_card, &paging}));
  });
}

Napi::Value count_step(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const Shapes shapes(info);
    NullDevice device(*shapes.sizes, held_weights(shapes.graph, shapes.formats));
    return from_dry_run(info.Env(), dry_run(shapes.graph, shapes.specs, shapes.plans, info[5].ToString(), device));
  });
}

Napi::Value arithmetic_peak(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const Fields fields(info[0], "options");
    const Precision precision = fields.get<Precision>("precision");
    const int rounds = fields.get<int>("rounds");
    return environment(env).channel->start<std::optional<double>>(
        env,
        [precision, rounds](Context& context, const CancelFlag&) {
          return lowrank::arithmetic_peak(context, precision, rounds);
        },
        to_value<std::optional<double>>);
  });
}

Napi::Value shutdown(const Napi::CallbackInfo& info) {
  environment(info.Env()).channel->close();
  return info.Env().Undefined();
}

/// `new Class(...)` without `new`: the exported create functions.
template <Napi::FunctionReference Environment::* Class>
Napi::Value create(const Napi::CallbackInfo& info) {
  std::vector<napi_value> arguments;
  for (size_t i = 0; i < info.Length(); ++i) arguments.push_back(info[i]);
  return (environment(info.Env()).*Class).New(arguments);
}

Napi::Object register_addon(Napi::Env env, Napi::Object exports) {
  os::keep_loaded();
  auto* state = new Environment;
  state->channel = Channel::open(env);
  state->model = Napi::Persistent(define_model(env));
  state->adapter = Napi::Persistent(define_adapter(env));
  state->session = Napi::Persistent(define_session(env));
  state->weight_file = Napi::Persistent(define_weight_file(env));
  env.SetInstanceData(state);
  // Runs when the event loop drains or a worker ends, but not on process.exit(): lib/native/addon.ts handles that case.
  env.AddCleanupHook([channel = state->channel] { channel->close(); });

  const auto method = [&](const char* name, Napi::Value (*call)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, call, name));
  };
  exports.Set("version", version());
  method("cpu", cpu_info);
  method("configure", configure);
  method("cuda", cuda_info);
  method("packedKernels", packed_kernels);
  method("giveKernels", give_kernels);
  method("allocated", allocated);
  method("residentBytes", resident_bytes);
  method("resetPeak", reset_peak);
  method("cachedBytes", cached_bytes);
  method("lockFile", lock_file);
  define_ranks(env, exports);
  define_grammars(env, exports);
  method("createModel", create<&Environment::model>);
  method("createAdapter", create<&Environment::adapter>);
  method("createSession", open_session);
  method("createWeightFile", create<&Environment::weight_file>);
  method("plan", plan);
  method("countStep", count_step);
  method("arithmeticPeak", arithmetic_peak);
  method("dump", dump);
  method("remarks", remarks);
  method("shutdown", shutdown);
  return exports;
}

}  // namespace
}  // namespace lowrank::addon

using lowrank::addon::register_addon;
NODE_API_MODULE(lowrank, register_addon)
