#include "addon/convert.h"

#include "addon/values.h"
#include "runtime/engine.h"

namespace lowrank::addon {

namespace {

/// Reads attributes of a node; those that may be absent keep their defaults.
struct ReadAttribute {
  const Fields& of;
  const std::unordered_map<std::string, int>& weights;

  void weight(const char* key, int& to, bool optional) const {
    if (optional && !of.has(key)) return;
    const auto found = weights.find(of.get<std::string>(key));
    if (found == weights.end()) of.wrong(key, "the name of a declared weight");
    to = found->second;
  }
  void value(const char* key, int& to, bool optional) const { integer(key, to, optional); }
  void integer(const char* key, int& to, bool optional) const {
    if (!optional || of.has(key)) to = of.get<int>(key);
  }
  void number(const char* key, float& to, bool optional) const {
    if (!optional || of.has(key)) to = of.get<float>(key);
  }
  template <class Enumeration>
  void choice(const char* key, Enumeration& to, bool optional) const {
    if (!optional || of.has(key)) to = of.get<Enumeration>(key);
  }
};

}  // namespace

Graph to_graph(Napi::Value value) {
  const Fields fields(value, "graph");
  Graph graph;
  graph.family = fields.get<std::string>("family");
  graph.vocab_size = fields.get<int64_t>("vocabSize");
  graph.labels = fields.get<int64_t>("labels", 0);
  graph.layers = fields.get<int>("layers");
  if (fields.has("part")) {
    const Fields part(fields["part"]);
    graph.part = {part.get<int>("index"), part.get<int>("count"), part.get<int>("firstNode")};
  }
  for (const Given& item : fields["weights"].list()) {
    const Fields w(item);
    graph.weights.push_back(
        {w.get<std::string>("name"), w.get<int64_t>("rows"), w.get<int64_t>("cols"), w.get<WeightKind>("kind")});
    graph.weight_of_name.emplace(graph.weights.back().name, static_cast<int>(graph.weights.size()) - 1);
  }
  for (const Given& item : fields["values"].list()) {
    const Fields v(item);
    graph.values.push_back({v.get<int64_t>("cols"), v.get<ValueType>("type")});
  }
  for (const Given& item : fields["nodes"].list()) {
    const Fields n(item);
    Node node;
    node.op = n.get<Op>("op");
    node.path = n.get<std::string>("path");
    node.segment = n.get<int>("segment");
    if (!ends(node.op)) node.out = n.get<int>("out");
    for (const char* const role : kOpInputs[static_cast<int>(node.op)])
      if (role != nullptr) node.inputs.push_back(n.get<int>(role));
    each_attribute(node.op, node, ReadAttribute{n, graph.weight_of_name});
    graph.nodes.push_back(std::move(node));
  }
  const auto frequencies = [](const Fields& of) {
    std::vector<double> found;
    for (const Given& each : of["invFreq"].list()) found.push_back(each.number());
    return found;
  };
  for (const Given& item : fields["ropes"].list()) {
    const Fields rope(item);
    Rotary& rotary = graph.ropes.emplace_back();
    rotary.inv_freq = frequencies(rope);
    rotary.attention_factor = rope.get<double>("attentionFactor");
    if (rope.has("growth")) {
      const Fields growth(rope["growth"]);
      rotary.growth = growth.get<double>("rate");
      rotary.growth_every = growth.get<int64_t>("every");
    }
    if (rope.has("long")) {
      const Fields of_long(rope["long"]);
      rotary.long_inv_freq = frequencies(of_long);
      rotary.long_above = of_long.get<int64_t>("above");
    }
  }
  graph.weight_of_name.clear();  // check_graph fills it, refusing duplicates
  return graph;
}

AdapterSpec to_adapter_spec(Napi::Value value) {
  const Fields fields(value, "adapter");
  AdapterSpec spec;
  std::unordered_map<std::string, int> index;
  for (const Given& item : fields["parameters"].list()) {
    const Fields p(item);
    ParameterSpec parameter;
    parameter.name = p.get<std::string>("name");
    parameter.rows = p.get<int64_t>("rows");
    parameter.cols = p.get<int64_t>("cols");
    parameter.trained = p.get<bool>("trained", false);
    parameter.group = p.has("group") ? p.get<int>("group") : 0;
    index.emplace(parameter.name, static_cast<int>(spec.parameters.size()));
    spec.parameters.push_back(std::move(parameter));
  }
  for (const Given& item : fields["terms"].list()) {
    const Fields described(item);
    TermSpec term{described.get<std::string>("kind"), described.get<std::string>("target"), {}, {}};
    const Fields roles(described["parameters"]);
    for (const std::string& role : roles.keys()) {
      const auto found = index.find(roles.get<std::string>(role.c_str()));
      if (found == index.end()) roles.wrong(role.c_str(), "the name of a declared parameter");
      term.parameters.emplace(role, found->second);
    }
    const Fields numbers(described["numbers"]);
    for (const std::string& name : numbers.keys()) term.numbers.emplace(name, numbers.get<double>(name.c_str()));
    spec.terms.push_back(std::move(term));
  }
  const auto named = [&](const Fields& entry, const char* key) {
    const auto found = index.find(entry.get<std::string>(key));
    if (found == index.end()) entry.wrong(key, "the name of a declared parameter");
    return found->second;
  };
  if (fields.has("copies")) {
    for (const Given& item : fields["copies"].list()) {
      const Fields c(item);
      spec.copies.push_back({c.get<std::string>("weight"), named(c, "parameter")});
    }
  }
  if (fields.has("projections")) {
    for (const Given& item : fields["projections"].list()) {
      const Fields p(item);
      spec.projections.push_back({named(p, "a"), named(p, "b"), p.get<float>("scale")});
    }
  }
  if (fields.has("triplets")) {
    for (const Given& item : fields["triplets"].list()) {
      const Fields t(item);
      const auto real = [&](const char* key) { return t.get<float>(key); };
      spec.triplets.push_back(
          {named(t, "a"), named(t, "d"), named(t, "b"), real("beta1"), real("beta2"), real("orthogonal")});
    }
  }
  if (fields.has("privacy")) {
    spec.privacy = fields.get<Privacy>("privacy");
  }
  return spec;
}

OptimizerKind to_optimizer_kind(const Fields& fields) { return fields.get<OptimizerKind>("kind"); }

StateSpec to_state_spec(const Fields& fields) {
  if (!fields.has("state")) return {};
  const Fields state(fields["state"]);
  return {to_optimizer_kind(state),
          state.get<bool>("momentum", true),
          state.get<bool>("eightBit", false),
          state.get<int64_t>("resident", -1),
          state.has("folder") ? state.get<std::string>("folder") : std::string(),
          state.get<bool>("inBackward", false)};
}

OptimizerStep to_optimizer_step(Napi::Value value) {
  const Fields o(value, "optimizer");
  const auto real = [](const Fields& fields, const char* key) { return fields.get<float>(key); };
  OptimizerStep options;
  options.kind = to_optimizer_kind(o);
  options.beta1 = o.get<float>("beta1");
  options.beta2 = o.get<float>("beta2");
  options.epsilon = o.get<float>("epsilon");
  options.max_grad_norm = o.get<double>("maxGradNorm");
  if (o.has("gradNorm")) options.grad_norm = o.get<double>("gradNorm");
  options.step = o.get<int64_t>("step");
  if (o.has("adafactor")) {
    const Fields own(o["adafactor"]);
    options.adafactor = {.decay_rate = own.get<double>("decayRate"),
                         .epsilon = own.get<double>("epsilon"),
                         .least_scale = own.get<double>("leastScale"),
                         .clip_threshold = own.get<double>("clipThreshold"),
                         .scale_parameter = own.get<bool>("scaleParameter", false)};
  }
  for (const Given& item : o["groups"].list()) {
    const Fields group(item);
    options.groups.push_back({real(group, "learningRate"), real(group, "weightDecay")});
  }
  if (o.has("ranks")) {
    const Fields ranks(o["ranks"]);
    options.ranks = {to_trained_ranks(ranks), {}};
    options.ranks->draws = ranks.get<std::vector<int64_t>>("draws");
  }
  return options;
}

TrainedRanks to_trained_ranks(const Fields& fields) {
  return {fields.get<int64_t>("active", 0), fields.get<bool>("lastOnly", false)};
}

StorageFormat to_storage_format(Napi::Value value) { return Given(value, "format").as<StorageFormat>(); }

namespace {

FileSpan to_file_span(const Given& given) {
  const Fields fields(given);
  return {fields.get<std::string>("file"), fields.get<int64_t>("offset"), fields.get<int64_t>("bytes")};
}

}  // namespace

HeadOrder to_head_order(const Fields& fields) {
  if (!fields.has("headOrder")) return {};
  const Fields order(fields["headOrder"]);
  return {order.get<int64_t>("heads"), order.get<int64_t>("keyHeads"), order.get<int64_t>("size"),
          order.get<int64_t>("first", 0), order.get<bool>("columns", false)};
}

TensorSource to_tensor_source(Napi::Value value) {
  const Fields fields(value, "tensor source");
  TensorSource source;
  source.name = fields.get<std::string>("name");
  source.file = fields.get<std::string>("file");
  source.offset = fields.get<int64_t>("offset");
  source.bytes = fields.get<int64_t>("bytes");
  source.dtype = fields.get<SourceDtype>("dtype");
  source.permuted_heads = fields.get<int64_t>("permutedHeads", 0);
  source.shift = fields.get<float>("shift", 0);
  source.head_order = to_head_order(fields);
  source.negated_exp = fields.get<bool>("negatedExp", false);
  const auto shape = fields.get<std::vector<int64_t>>("shape");
  if (shape.empty() || shape.size() > 3) fields.wrong("shape", "one to three numbers");
  source.rows = shape.size() == 2 ? shape[0] : 1;
  source.cols = shape.size() == 3 ? shape[0] * shape[1] * shape[2] : shape.back();  // a kernel is a vector
  if (source.dtype >= SourceDtype::nf4) {
    const Fields scales(fields["scales"]);
    source.absmax = to_file_span(scales["absmax"]);
    if (source.dtype == SourceDtype::nf4_double || source.dtype == SourceDtype::fp4_double) {
      source.nested_absmax = to_file_span(scales["nestedAbsmax"]);
      source.absmax_offset = scales.get<float>("absmaxOffset");
    }
  }
  return source;
}

Precision to_precision(const Fields& fields) { return fields.get<Precision>("precision"); }

std::map<std::string, PlanOptions> to_plans(Napi::Value value) {
  return Given(value, "plans").as<std::map<std::string, PlanOptions>>();
}

float to_temperature(const Fields& fields) {
  const double temperature = fields.get<double>("temperature", 1);
  if (!(temperature > 0)) fields.wrong("temperature", "a positive number");
  return static_cast<float>(temperature);
}

MicroBatch to_micro_batch(const Fields& fields) {
  return {fields.get<std::vector<int32_t>>("tokens"), fields.get<std::vector<int32_t>>("cuSeqlens"),
          fields.get<std::vector<int32_t>>("labels")};
}

TrainInput to_train_input(Napi::Value value) {
  const Fields fields(value, "input");
  TrainInput input;
  input.batch = to_micro_batch(fields);
  input.loss_scale = fields.get<float>("lossScale");
  input.seed = fields.get<uint64_t>("seed");
  input.step = fields.get<uint64_t>("step");
  input.micro_step = fields.get<uint64_t>("microStep");
  input.active_rank = fields.get<int64_t>("activeRank", 0);
  input.last_rank_only = fields.get<bool>("lastRankOnly", false);
  input.clipping_norm = fields.get<double>("clippingNorm", 0);
  input.temperature = to_temperature(fields);
  input.label_smoothing = fields.get<float>("labelSmoothing", 0);
  input.embedding_noise = fields.get<float>("embeddingNoise", 0);
  if (fields.has("weights")) input.weights = fields.get<std::vector<float>>("weights");
  if (fields.get<bool>("lastOfStep", false)) input.sums = &Engine::instance().sums();
  if (fields.has("update")) input.update = to_optimizer_step(fields.get("update"));
  return input;
}

ForwardInput to_forward_input(const Fields& fields) {
  return {fields.get<std::vector<int32_t>>("tokens"), fields.get<int64_t>("past"),
          fields.get<std::vector<int32_t>>("rows"), fields.get<int64_t>("reach", 0)};
}

std::optional<Sampling> to_sampling(const Fields& fields) {
  if (!fields.has("sampling")) return std::nullopt;
  const Fields s(fields["sampling"]);
  Sampling sampling;
  sampling.temperature = s.get<float>("temperature");
  sampling.top_k = s.get<int64_t>("topK");
  sampling.top_p = s.get<float>("topP");
  sampling.seed = s.get<uint64_t>("seed");
  sampling.position = s.get<uint64_t>("position");
  if (s.has("frequencyPenalty")) sampling.frequency_penalty = s.get<float>("frequencyPenalty");
  if (s.has("presencePenalty")) sampling.presence_penalty = s.get<float>("presencePenalty");
  if (s.has("drawn")) sampling.drawn = s.get<std::vector<int32_t>>("drawn");
  if (s.has("logitBias")) {
    const Fields bias(s["logitBias"]);
    const std::vector<int32_t> ids = bias.get<std::vector<int32_t>>("ids");
    const std::vector<float> values = bias.get<std::vector<float>>("values");
    if (ids.size() != values.size()) bias.wrong("values", "as long as its ids");
    for (size_t i = 0; i < ids.size(); ++i) sampling.logit_bias.emplace_back(ids[i], values[i]);
  }
  if (s.has("rules")) sampling.rules = s["rules"].rules();
  return sampling;
}

Napi::Value from_report(Napi::Env env, PlanReport report) {
  std::vector<PlanMoment> moments = std::exchange(report.timeline, {});
  Napi::Object object = to_value(env, report).As<Napi::Object>();
  const auto timeline = [moments = std::move(moments)](const Napi::CallbackInfo& info) {
    return to_value(info.Env(), moments);
  };
  object.DefineProperty(Napi::PropertyDescriptor::Accessor(env, object, "timeline", timeline, napi_enumerable));
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
