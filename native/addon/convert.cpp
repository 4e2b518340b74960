#include "addon/convert.h"

#include "os/mapped_file.h"
#include "runtime/engine.h"

namespace lowrank::addon {

namespace {

/// Reads attributes of a node; those that may be absent keep their defaults.
struct ReadAttribute {
  const Fields& of;
  const std::unordered_map<std::string, int>& weights;

  void weight(const char* key, int& to, bool optional) const {
    if (optional && !of.has(key)) return;
    const auto found = weights.find(of.text(key));
    if (found == weights.end()) of.wrong(key, "the name of a declared weight");
    to = found->second;
  }
  void value(const char* key, int& to, bool optional) const { integer(key, to, optional); }
  void integer(const char* key, int& to, bool optional) const {
    if (!optional || of.has(key)) to = of.index(key);
  }
  void number(const char* key, float& to, bool optional) const {
    if (!optional || of.has(key)) to = static_cast<float>(of.number(key));
  }
  template <class Enumeration>
  void choice(const char* key, Enumeration& to, bool optional) const {
    if (!optional || of.has(key)) to = of.choice<Enumeration>(key);
  }
};

}  // namespace

Graph to_graph(Napi::Value value) {
  const Fields fields(value, "graph");
  Graph graph;
  graph.family = fields.text("family");
  graph.vocab_size = fields.integer("vocabSize");
  graph.labels = fields.integer("labels", 0);
  graph.layers = fields.index("layers");
  if (fields.has("part")) {
    const Fields part(fields.get("part"), "graph.part");
    graph.part = {part.index("index"), part.index("count"), part.index("firstNode")};
  }
  for (const Napi::Value item : fields.list("weights")) {
    const Fields w(item, "graph.weights");
    graph.weights.push_back({w.text("name"), w.integer("rows"), w.integer("cols"), w.choice<WeightKind>("kind")});
    graph.weight_of_name.emplace(graph.weights.back().name, static_cast<int>(graph.weights.size()) - 1);
  }
  for (const Napi::Value item : fields.list("values")) {
    const Fields v(item, "graph.values");
    graph.values.push_back({v.integer("cols"), v.choice<ValueType>("type")});
  }
  for (const Napi::Value item : fields.list("nodes")) {
    const Fields n(item, "graph.nodes");
    Node node;
    node.op = n.choice<Op>("op");
    node.path = n.text("path");
    node.segment = n.index("segment");
    if (!ends(node.op)) node.out = n.index("out");
    for (const char* const role : kOpInputs[static_cast<int>(node.op)])
      if (role != nullptr) node.inputs.push_back(n.index(role));
    each_attribute(node.op, node, ReadAttribute{n, graph.weight_of_name});
    graph.nodes.push_back(std::move(node));
  }
  const auto frequencies = [](const Fields& of) {
    std::vector<double> found;
    for (const Napi::Value f : of.list("invFreq")) {
      if (!f.IsNumber()) of.wrong("invFreq", "numbers");
      found.push_back(f.As<Napi::Number>().DoubleValue());
    }
    return found;
  };
  for (const Napi::Value item : fields.list("ropes")) {
    const Fields rope(item, "graph.ropes");
    Rotary& rotary = graph.ropes.emplace_back();
    rotary.inv_freq = frequencies(rope);
    rotary.attention_factor = rope.number("attentionFactor");
    if (rope.has("growth")) {
      const Fields growth(rope.get("growth"), "graph.ropes.growth");
      rotary.growth = growth.number("rate");
      rotary.growth_every = growth.integer("every");
    }
    if (rope.has("long")) {
      const Fields of_long(rope.get("long"), "graph.ropes.long");
      rotary.long_inv_freq = frequencies(of_long);
      rotary.long_above = of_long.integer("above");
    }
  }
  graph.weight_of_name.clear();  // check_graph fills it, refusing duplicates
  return graph;
}

AdapterSpec to_adapter_spec(Napi::Value value) {
  const Fields fields(value, "adapter");
  AdapterSpec spec;
  std::unordered_map<std::string, int> index;
  for (const Napi::Value item : fields.list("parameters")) {
    const Fields p(item, "adapter.parameters");
    ParameterSpec parameter;
    parameter.name = p.text("name");
    parameter.rows = p.integer("rows");
    parameter.cols = p.integer("cols");
    parameter.trained = p.flag("trained", false);
    parameter.group = p.has("group") ? p.index("group") : 0;
    index.emplace(parameter.name, static_cast<int>(spec.parameters.size()));
    spec.parameters.push_back(std::move(parameter));
  }
  for (const Napi::Value item : fields.list("terms")) {
    const Fields described(item, "adapter.terms");
    TermSpec term{described.text("kind"), described.text("target"), {}, {}};
    const Fields roles(described.get("parameters"), "adapter.terms.parameters");
    for (const std::string& role : roles.keys()) {
      const auto found = index.find(roles.text(role.c_str()));
      if (found == index.end()) roles.wrong(role.c_str(), "the name of a declared parameter");
      term.parameters.emplace(role, found->second);
    }
    const Fields numbers(described.get("numbers"), "adapter.terms.numbers");
    for (const std::string& name : numbers.keys()) term.numbers.emplace(name, numbers.number(name.c_str()));
    spec.terms.push_back(std::move(term));
  }
  const auto named = [&](const Fields& entry, const char* key) {
    const auto found = index.find(entry.text(key));
    if (found == index.end()) entry.wrong(key, "the name of a declared parameter");
    return found->second;
  };
  if (fields.has("copies")) {
    for (const Napi::Value item : fields.list("copies")) {
      const Fields c(item, "adapter.copies");
      spec.copies.push_back({c.text("weight"), named(c, "parameter")});
    }
  }
  if (fields.has("projections")) {
    for (const Napi::Value item : fields.list("projections")) {
      const Fields p(item, "adapter.projections");
      spec.projections.push_back({named(p, "a"), named(p, "b"), static_cast<float>(p.number("scale"))});
    }
  }
  if (fields.has("triplets")) {
    for (const Napi::Value item : fields.list("triplets")) {
      const Fields t(item, "adapter.triplets");
      const auto real = [&](const char* key) { return static_cast<float>(t.number(key)); };
      spec.triplets.push_back(
          {named(t, "a"), named(t, "d"), named(t, "b"), real("beta1"), real("beta2"), real("orthogonal")});
    }
  }
  if (fields.has("privacy")) {
    spec.privacy = fields.choice<Privacy>("privacy");
  }
  return spec;
}

OptimizerKind to_optimizer_kind(const Fields& fields) { return fields.choice<OptimizerKind>("kind"); }

StateSpec to_state_spec(const Fields& fields) {
  if (!fields.has("state")) return {};
  const Fields state(fields.get("state"), "state");
  return {to_optimizer_kind(state),
          state.flag("momentum", true),
          state.flag("eightBit", false),
          state.integer("resident", -1),
          state.has("folder") ? state.text("folder") : std::string(),
          state.flag("inBackward", false)};
}

OptimizerStep to_optimizer_step(Napi::Value value) {
  const Fields o(value, "optimizer");
  const auto real = [](const Fields& fields, const char* key) { return static_cast<float>(fields.number(key)); };
  OptimizerStep options;
  options.kind = to_optimizer_kind(o);
  options.beta1 = real(o, "beta1");
  options.beta2 = real(o, "beta2");
  options.epsilon = real(o, "epsilon");
  options.max_grad_norm = o.number("maxGradNorm");
  if (o.has("gradNorm")) options.grad_norm = o.number("gradNorm");
  options.step = o.integer("step");
  if (o.has("adafactor")) {
    const Fields own(o.get("adafactor"), "optimizer.adafactor");
    options.adafactor = {.decay_rate = own.number("decayRate"),
                         .epsilon = own.number("epsilon"),
                         .least_scale = own.number("leastScale"),
                         .clip_threshold = own.number("clipThreshold"),
                         .scale_parameter = own.flag("scaleParameter", false)};
  }
  for (const Napi::Value item : o.list("groups")) {
    const Fields group(item, "optimizer.groups");
    options.groups.push_back({real(group, "learningRate"), real(group, "weightDecay")});
  }
  if (o.has("ranks")) {
    const Fields ranks(o.get("ranks"), "optimizer.ranks");
    options.ranks = {to_trained_ranks(ranks), {}};
    for (const Napi::Value item : ranks.list("draws")) {
      if (!item.IsNumber()) ranks.wrong("draws", "numbers");
      options.ranks->draws.push_back(item.As<Napi::Number>().Int64Value());
    }
  }
  return options;
}

TrainedRanks to_trained_ranks(const Fields& fields) {
  return {fields.integer("active", 0), fields.flag("lastOnly", false)};
}

StorageFormat to_storage_format(Napi::Value value) {
  Napi::Object holder = Napi::Object::New(value.Env());
  holder.Set("format", value);
  return Fields(holder, "weight").choice<StorageFormat>("format");
}

namespace {

FileSpan to_file_span(Napi::Value value, const char* where) {
  const Fields fields(value, where);
  return {fields.text("file"), fields.integer("offset"), fields.integer("bytes")};
}

}  // namespace

HeadOrder to_head_order(const Fields& fields) {
  if (!fields.has("headOrder")) return {};
  const Fields order(fields.get("headOrder"), "order of heads");
  return {order.integer("heads"), order.integer("keyHeads"), order.integer("size"), order.integer("first", 0),
          order.flag("columns", false)};
}

TensorSource to_tensor_source(Napi::Value value) {
  const Fields fields(value, "tensor source");
  TensorSource source;
  source.name = fields.text("name");
  source.file = fields.text("file");
  source.offset = fields.integer("offset");
  source.bytes = fields.integer("bytes");
  source.dtype = fields.choice<SourceDtype>("dtype");
  source.permuted_heads = fields.integer("permutedHeads", 0);
  source.shift = static_cast<float>(fields.number("shift", 0));
  source.head_order = to_head_order(fields);
  source.negated_exp = fields.flag("negatedExp", false);
  std::vector<int64_t> shape;
  for (const Napi::Value item : fields.list("shape")) {
    if (!item.IsNumber()) fields.wrong("shape", "numbers");
    shape.push_back(item.As<Napi::Number>().Int64Value());
  }
  if (shape.empty() || shape.size() > 3) fields.wrong("shape", "one to three numbers");
  source.rows = shape.size() == 2 ? shape[0] : 1;
  source.cols = shape.size() == 3 ? shape[0] * shape[1] * shape[2] : shape.back();  // a kernel is a vector
  if (source.dtype >= SourceDtype::nf4) {
    const Fields scales(fields.get("scales"), "tensor source scales");
    source.absmax = to_file_span(scales.get("absmax"), "absmax");
    if (source.dtype == SourceDtype::nf4_double || source.dtype == SourceDtype::fp4_double) {
      source.nested_absmax = to_file_span(scales.get("nestedAbsmax"), "nested absmax");
      source.absmax_offset = static_cast<float>(scales.number("absmaxOffset"));
    }
  }
  return source;
}

Precision to_precision(const Fields& fields) { return fields.choice<Precision>("precision"); }

std::map<std::string, PlanOptions> to_plans(Napi::Value value) {
  const Fields fields(value, "plans");
  std::map<std::string, PlanOptions> plans;
  const Napi::Array names = value.As<Napi::Object>().GetPropertyNames();
  for (uint32_t i = 0; i < names.Length(); ++i) {
    const std::string name = names.Get(i).As<Napi::String>().Utf8Value();
    plans.emplace(name, Fields(fields.get(name.c_str()), "plans." + name).structure<PlanOptions>());
  }
  return plans;
}

float to_temperature(const Fields& fields) {
  const double temperature = fields.number("temperature", 1);
  if (!(temperature > 0)) fields.wrong("temperature", "a positive number");
  return static_cast<float>(temperature);
}

MicroBatch to_micro_batch(const Fields& fields) {
  return {fields.ids("tokens"), fields.ids("cuSeqlens"), fields.ids("labels")};
}

TrainInput to_train_input(Napi::Value value) {
  const Fields fields(value, "input");
  TrainInput input;
  input.batch = to_micro_batch(fields);
  input.loss_scale = static_cast<float>(fields.number("lossScale"));
  input.seed = static_cast<uint64_t>(fields.integer("seed"));
  input.step = static_cast<uint64_t>(fields.integer("step"));
  input.micro_step = static_cast<uint64_t>(fields.integer("microStep"));
  input.active_rank = fields.integer("activeRank", 0);
  input.last_rank_only = fields.flag("lastRankOnly", false);
  input.clipping_norm = fields.number("clippingNorm", 0);
  input.temperature = to_temperature(fields);
  input.label_smoothing = static_cast<float>(fields.number("labelSmoothing", 0));
  input.embedding_noise = static_cast<float>(fields.number("embeddingNoise", 0));
  if (fields.has("weights")) input.weights = fields.floats("weights");
  if (fields.flag("lastOfStep", false)) input.sums = &Engine::instance().sums();
  if (fields.has("update")) input.update = to_optimizer_step(fields.get("update"));
  return input;
}

ForwardInput to_forward_input(const Fields& fields) {
  return {fields.ids("tokens"), fields.integer("past"), fields.ids("rows"), fields.integer("reach", 0)};
}

std::optional<Sampling> to_sampling(const Fields& fields) {
  if (!fields.has("sampling")) return std::nullopt;
  const Fields s(fields.get("sampling"), "sampling");
  Sampling sampling;
  sampling.temperature = static_cast<float>(s.number("temperature"));
  sampling.top_k = s.integer("topK");
  sampling.top_p = static_cast<float>(s.number("topP"));
  sampling.seed = static_cast<uint64_t>(s.integer("seed"));
  sampling.position = static_cast<uint64_t>(s.integer("position"));
  if (s.has("frequencyPenalty")) sampling.frequency_penalty = static_cast<float>(s.number("frequencyPenalty"));
  if (s.has("presencePenalty")) sampling.presence_penalty = static_cast<float>(s.number("presencePenalty"));
  if (s.has("drawn")) sampling.drawn = s.ids("drawn");
  if (s.has("logitBias")) {
    const Fields bias(s.get("logitBias"), "logitBias");
    const std::vector<int32_t> ids = bias.ids("ids");
    const std::vector<float> values = bias.floats("values");
    if (ids.size() != values.size()) bias.wrong("values", "as long as its ids");
    for (size_t i = 0; i < ids.size(); ++i) sampling.logit_bias.emplace_back(ids[i], values[i]);
  }
  if (s.has("rules")) sampling.rules = rules_of(s.get("rules"));
  return sampling;
}

KernelStudy to_kernel_study(Napi::Value value) {
  const Fields fields(value, "kernel study");
  KernelStudy study;
  study.precision = to_precision(fields);
  study.rounds = fields.index("rounds");
  const auto integer = [&](const char* key) { return fields.integer(key); };
  const auto index = [&](const char* key) { return static_cast<int32_t>(fields.index(key)); };
  static constexpr const char* kKinds[] = {"linear", "attention", "head_loss"};
  switch (fields.choice("kind", kKinds)) {
    case 0:
      study.subject = LinearStudy{integer("tokens"), integer("out"), integer("in"), integer("rank"),
                                  to_storage_format(fields.get("format"))};
      break;
    case 1: {
      AttentionStudy attention{index("sequences"), index("length"), index("heads"), index("kvHeads"), index("headDim")};
      if (fields.has("window")) attention.window = index("window");
      study.subject = attention;
      break;
    }
    default:
      study.subject =
          HeadStudy{integer("tokens"), integer("vocab"), integer("hidden"), to_storage_format(fields.get("format"))};
  }
  return study;
}

Napi::Value from_kernel_times(Napi::Env env, const KernelTimes& times) {
  Napi::Object object = Napi::Object::New(env);
  Napi::Array kernels = Napi::Array::New(env);
  for (const KernelTime& kernel : times.kernels) {
    Napi::Object item = Napi::Object::New(env);
    item.Set("name", kernel.name);
    item.Set("operations", kernel.operations);
    item.Set("seconds", kernel.seconds);
    kernels.Set(kernels.Length(), item);
  }
  object.Set("kernels", kernels);
  object.Set("peak", times.peak ? Napi::Value(Napi::Number::New(env, *times.peak)) : env.Null());
  if (times.extra_bytes) object.Set("extraBytes", static_cast<double>(*times.extra_bytes));
  return object;
}

Napi::Value from_report(Napi::Env env, PlanReport report) {
  Napi::Object object = Napi::Object::New(env);
  const auto number = [&](const char* key, int64_t value) {
    object.Set(key, Napi::Number::New(env, static_cast<double>(value)));
  };
  number("peakBytes", report.peak_bytes);
  number("pinnedBytes", report.pinned_bytes);
  Napi::Array rows = Napi::Array::New(env);
  for (const PlanRow& row : report.rows) {
    Napi::Object item = Napi::Object::New(env);
    item.Set("category", name_of(row.category));
    item.Set("bytes", Napi::Number::New(env, static_cast<double>(row.bytes)));
    if (row.pinned > 0) item.Set("pinnedBytes", Napi::Number::New(env, static_cast<double>(row.pinned)));
    rows.Set(rows.Length(), item);
  }
  object.Set("rows", rows);
  number("arenaBytes", report.arena_bytes);
  number("pagedReadBytes", report.paged_read_bytes);
  number("offloadedBytes", report.offloaded_bytes);
  number("pagedStateBytes", report.paged_state_bytes);
  object.Set("dropsPages", os::drops_pages());
  object.Set("peakAt", report.peak_at);
  const auto timeline = [moments = std::move(report.timeline)](const Napi::CallbackInfo& info) -> Napi::Value {
    Napi::Array array = Napi::Array::New(info.Env(), moments.size());
    for (const PlanMoment& moment : moments) {
      Napi::Object item = Napi::Object::New(info.Env());
      item.Set("phase", name_of(moment.phase));
      item.Set("kernel", moment.kind);
      item.Set("node", moment.node);
      item.Set("liveBytes", Napi::Number::New(info.Env(), static_cast<double>(moment.live_bytes)));
      item.Set("multiplyAdds", Napi::Number::New(info.Env(), moment.multiply_adds));
      array.Set(static_cast<uint32_t>(&moment - moments.data()), item);
    }
    return array;
  };
  object.DefineProperty(Napi::PropertyDescriptor::Accessor(env, object, "timeline", timeline, napi_enumerable));
  number("trainableParameters", report.trainable_parameters);
  number("totalParameters", report.total_parameters);
  return object;
}

namespace {

Napi::Object from_counts(Napi::Env env, const NullDevice::Counts& of) {
  const auto number = [env](int64_t value) { return Napi::Number::New(env, static_cast<double>(value)); };
  Napi::Array kernels = Napi::Array::New(env);
  for (const char* const name : kernel_names()) {
    const auto found = of.kernels.find(name);
    const KernelCounts counts = found == of.kernels.end() ? KernelCounts() : found->second;
    Napi::Object item = Napi::Object::New(env);
    item.Set("kernel", name);
    item.Set("launches", number(counts.launches));
    item.Set("bytesMoved", number(counts.bytes));
    item.Set("workspaceBytes", number(counts.workspace));
    item.Set("multiplyAdds", Napi::Number::New(env, counts.multiply_adds));
    kernels.Set(kernels.Length(), item);
  }
  Napi::Object downloaded = Napi::Object::New(env);
  for (const auto& [what, bytes] : of.downloaded) downloaded.Set(what, number(bytes));
  Napi::Object object = Napi::Object::New(env);
  object.Set("kernels", kernels);
  object.Set("uploadedBytes", number(of.uploaded));
  object.Set("downloadedBytes", downloaded);
  object.Set("stashedBytes", number(of.stashed));
  object.Set("fetchedBytes", number(of.fetched));
  return object;
}

}  // namespace

Napi::Value from_dry_run(Napi::Env env, const DryRun& run) {
  Napi::Object object = from_counts(env, run.micro_batch);
  if (run.update) object.Set("update", from_counts(env, *run.update));
  return object;
}

}  // namespace lowrank::addon
