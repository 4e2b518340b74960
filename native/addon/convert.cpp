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
  ParameterNames names;
  for (const Given& parameter : Fields(value, "adapter")["parameters"].list())
    names.emplace(Fields(parameter).get<std::string>("name"), static_cast<int>(names.size()));
  AdapterSpec spec;
  static_cast<AdapterParts&>(spec) = Given(value, "adapter", &names).as<AdapterParts>();
  return spec;
}

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

std::map<std::string, PlanOptions> to_plans(Napi::Value value) {
  return Given(value, "plans").as<std::map<std::string, PlanOptions>>();
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

/// With an entry for every kernel.
WorkCounts work_of(const NullDevice::Counts& of) {
  WorkCounts work{{}, of.uploaded, of.downloaded, of.stashed, of.fetched};
  for (const char* const name : kernel_names()) {
    const auto found = of.kernels.find(name);
    work.kernels.push_back(found == of.kernels.end() ? KernelCounts{name} : found->second);
  }
  return work;
}

}  // namespace

Napi::Value from_dry_run(Napi::Env env, const DryRun& run) {
  StepCounts counts{work_of(run.micro_batch), {}};
  if (run.update) counts.update = work_of(*run.update);
  return to_value(env, counts);
}

}  // namespace lowrank::addon
