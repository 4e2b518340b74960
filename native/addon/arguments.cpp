#include "addon/arguments.h"

#include "addon/handle.h"

namespace lowrank::addon {

std::vector<StorageFormat> to_formats(const Graph& graph, Napi::Value value) {
  const Fields by_name(value, "formats");
  std::vector<StorageFormat> formats;
  for (const GraphWeight& weight : graph.weights) formats.push_back(by_name.get<StorageFormat>(weight.name.c_str()));
  return formats;
}

std::optional<int64_t> to_paged(Napi::Value value) {
  if (!value.IsNumber()) return std::nullopt;
  return value.As<Napi::Number>().Int64Value();
}

std::string device_of(const Fields& options) {
  return options.has("device") ? options.get<std::string>("device") : "cpu";
}

int declared(const Model& model, const std::string& name) {
  const auto found = model.graph.weight_of_name.find(name);
  if (found == model.graph.weight_of_name.end()) fail("CONFIG", "the model has no weight '", name, "'");
  return found->second;
}

int loaded(const Model& model, const std::string& name) {
  const int index = declared(model, name);
  if (!model.weights[index]) fail("CONFIG", "weight '", name, "' is not loaded");
  return index;
}

AdapterList::AdapterList(const Fields& options) {
  for (const Given& item : options["adapters"].list()) {
    const Fields entry(item);
    owners_.push_back(adapter_of(entry.get("adapter")));
    uses_->emplace_back(owners_.back(), AdapterUse::Kind::infer);
    list_.push_back({owners_.back().get(), entry.get<float>("weight", 1), entry.get<int64_t>("rank", 0)});
  }
}

}  // namespace lowrank::addon
