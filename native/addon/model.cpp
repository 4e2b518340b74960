// The handle of a model: its weights come, are read, merged and taken apart.
#include <algorithm>

#include "addon/arguments.h"
#include "addon/convert.h"
#include "addon/handle.h"
#include "addon/values.h"
#include "core/bytes.h"
#include "core/error.h"
#include "core/remarks.h"
#include "os/mapped_file.h"
#include "runtime/engine.h"
#include "weights/decompose_weight.h"
#include "weights/weight_file.h"
#include "weights/weight_stream.h"

namespace lowrank::addon {
namespace {

class ModelHandle : public Handle<ModelHandle, Model> {
 public:
  static constexpr napi_type_tag kTag{0x6c6f7772616e6b00, 1};
  static constexpr const char* kName = "a model";

  explicit ModelHandle(const Napi::CallbackInfo& info) : Handle(info) {
    guarded(info.Env(), [&] {
      const auto model = std::make_shared<Model>(to_graph(info[0]));
      if (!info[1].IsUndefined()) model->device = device_of(Fields(info[1], "options"));
      hold(model);
    });
  }

  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "NativeModel",
        {InstanceMethod<&ModelHandle::load_weight>("loadWeight"),
         InstanceMethod<&ModelHandle::map_weights>("mapWeights"),
         InstanceMethod<&ModelHandle::merge_weight>("mergeWeight"), InstanceMethod<&ModelHandle::missing>("missing"),
         InstanceMethod<&ModelHandle::paged_bytes>("pagedBytes"), InstanceMethod<&ModelHandle::packed>("packed"),
         InstanceMethod<&ModelHandle::plan>("plan"), InstanceMethod<&ModelHandle::read_weight>("readWeight"),
         InstanceMethod<&ModelHandle::decompose>("decompose"), dispose_method()});
  }

 private:
  Napi::Value load_weight(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      const auto model = payload(env);
      const std::string name = info[0].ToString();
      const TensorSource source = to_tensor_source(info[1]);
      const StorageFormat format = Given(info[2], "format").as<StorageFormat>();
      const int index = declared(*model, name);
      const GraphWeight& expected = model->graph.weights[index];
      if (model->weights[index]) fail("CONFIG", "weight '", name, "' is already loaded");
      if (source.rows != expected.rows || source.cols != expected.cols)
        fail("SHAPE", "tensor '", name, "' in ", source.file, " is [", source.rows, ", ", source.cols,
             "] but the model's config requires [", expected.rows, ", ", expected.cols, "]");
      if (expected.kind == WeightKind::vector && format != StorageFormat::f32)
        fail("CONFIG", "weight '", name, "' cannot be stored as ", name_of(format));
      if (is_blocks(format) && !source.head_order) return map_blocks(env, model, index, source, format);
      grow(env, weight_bytes(format, source.rows, source.cols) + constants_bytes(format, source.rows, source.cols));
      return environment(env).channel->start<Weight>(
          env,
          [source, format](Context& context, const CancelFlag& cancel) {
            LoadOptions options;
            options.cancel = cancel.get();
            return lowrank::load_weight(context.pool, source, format, options);
          },
          [model, index](Napi::Env e, Weight& weight) -> Napi::Value {
            place(e, *model, index, weight);
            return e.Undefined();
          });
    });
  }

  /// A tensor that stays as it is in its file.
  Napi::Value map_blocks(Napi::Env env, const std::shared_ptr<Model>& model, int index, const TensorSource& source,
                         StorageFormat format) {
    return environment(env).channel->start<Weight>(
        env,
        [model, source, format](Context&, const CancelFlag&) {
          std::shared_ptr<const os::MappedFile>& file = model->files[source.file];
          if (!file) {
            file = std::make_shared<const os::MappedFile>(source.file);
            file->prefetch();
          }
          return map_weight(source, format, file);
        },
        [model, index](Napi::Env e, Weight& weight) -> Napi::Value {
          const int64_t bytes = weight_bytes(weight.format(), weight.rows(), weight.cols());
          place(e, *model, index, weight);
          model->mapped.emplace_back(Category::weights, bytes);
          return e.Undefined();
        });
  }

  Napi::Value map_weights(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&] {
      const auto model = payload(env);
      const std::string path = info[0].ToString(), key = info[1].ToString();
      const std::vector<StorageFormat> formats = to_formats(model->graph, info[2]);
      const std::optional<int64_t> paged = to_paged(info[3]);
      struct Mapped {
        std::shared_ptr<const WeightFile> file;
        std::vector<Weight> weights;
        std::unique_ptr<Pager> pager;
        std::unique_ptr<const WeightStream> stream;
        std::shared_ptr<std::byte> image;
      };
      const bool streamed = paged && model->device != "cpu";
      return environment(env).channel->start<Mapped>(
          env,
          [model, path, key, formats, paged, streamed](Context&, const CancelFlag& cancel) {
            Mapped mapped{std::make_shared<const WeightFile>(model->graph, formats, key, path, paged.has_value()),
                          {},
                          {},
                          {},
                          {}};
            if (streamed) {
              mapped.stream = std::make_unique<const WeightStream>(stream_weights(model->graph, formats, *paged));
              mapped.image =
                  Engine::instance().memory(model->device).pinned(Category::paged_weights, mapped.stream->image_bytes);
            }
            if (mapped.image) {
              mapped.weights = read_image(mapped.file, *mapped.stream, mapped.image, cancel);
              mapped.file->file().expect_whole();
              return mapped;
            }
            if (streamed)
              remark("The system refused " + readable(mapped.stream->image_bytes) +
                     " of pinned memory for the base on " + model->device +
                     "; it stays in its file and passes through the host's memory, which is slower.");
            if (!paged) mapped.file->file().prefetch();
            for (size_t i = 0; i < model->weights.size(); ++i)
              mapped.weights.push_back(WeightFile::weight(mapped.file, static_cast<int>(i)));
            if (paged) {
              PageSpans spans(model->graph, mapped.file->layout());
              const int64_t budget = spans.budget(streamed ? 0 : *paged);
              mapped.pager = std::make_unique<Pager>(mapped.file, std::move(spans), budget);
            }
            mapped.file->file().expect_whole();
            model->files[path] = std::shared_ptr<const os::MappedFile>(mapped.file, &mapped.file->file());
            return mapped;
          },
          [model](Napi::Env e, Mapped& mapped) -> Napi::Value {
            Napi::Object result = Napi::Object::New(e);
            result.Set("livesInMemory", mapped.file->file().lives_in_memory());
            result.Set("pinned", mapped.image != nullptr);
            if (mapped.pager) {
              const int64_t budget = std::min(mapped.pager->budget(), mapped.pager->spans().bytes);
              model->mapped.emplace_back(Category::paged_weights, budget);
            }
            for (size_t i = 0; i < mapped.weights.size(); ++i) {
              place(e, *model, static_cast<int>(i), mapped.weights[i]);
              const WeightPlace& there = mapped.file->layout().places[i];
              if (there.vector || mapped.pager || mapped.image) continue;
              model->mapped.emplace_back(Category::weights, there.elements());
              model->mapped.emplace_back(Category::quantization_constants, there.constants());
            }
            model->pager = std::move(mapped.pager);
            model->stream = std::move(mapped.stream);
            model->image = std::move(mapped.image);
            return result;
          });
    });
  }

  Napi::Value plan(const Napi::CallbackInfo& info);
  Napi::Value read_weight(const Napi::CallbackInfo& info);
  Napi::Value merge_weight(const Napi::CallbackInfo& info);
  Napi::Value decompose(const Napi::CallbackInfo& info);

  Napi::Value packed(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&] {
      const auto model = payload(env);
      const int index = loaded(*model, info[0].ToString());
      return environment(env).channel->start<PackedWeight>(env,
                                                           over(model,
                                                                [model, index](Context& context, const CancelFlag&) {
                                                                  const Held held = model->hold(index);
                                                                  return pack_weight(context.pool,
                                                                                     model->weights[index]);
                                                                }),
                                                           to_value<PackedWeight>);
    });
  }

  /// Placed on JavaScript's thread, which reads the list, and once: no session sees a weight change.
  static void place(Napi::Env env, Model& model, int index, Weight& weight) {
    if (model.weights[index])
      throw to_js(env, "CONFIG", "weight '" + model.graph.weights[index].name + "' is already loaded");
    model.weights[index] = std::move(weight);
  }

  Napi::Value paged_bytes(const Napi::CallbackInfo& info) {
    const auto model = payload(info.Env());
    return number(info.Env(), model->pager ? model->pager->resident_bytes() : 0);
  }

  Napi::Value missing(const Napi::CallbackInfo& info) {
    const std::vector<std::string> names = payload(info.Env())->missing();
    return to_value(info.Env(), names);
  }
};

Napi::Value ModelHandle::plan(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const auto model = payload(env);
    model->expect_loaded();
    std::vector<AdapterSpec> specs;
    for (const Given& each : Given(info[0], "adapters").list()) {
      const Fields item(each);
      specs.push_back(adapter_of(item.get("adapter"))->spec());
      specs.back().state = item.get<StateSpec>("state", {});
    }
    std::vector<const AdapterSpec*> adapters;
    for (const AdapterSpec& spec : specs) adapters.push_back(&spec);
    std::map<std::string, Plan> plans;
    const auto sizes = Engine::instance().sizes(model->device);
    for (const auto& [name, options] : to_plans(info[1]))
      plans.emplace(name, make_plan(*sizes, model->graph, adapters, options));
    return from_report(env, report_plans(*model, adapters, plans));
  });
}

Napi::Value ModelHandle::read_weight(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const auto model = payload(env);
    const std::string name = info[0].ToString();
    const Fields fields(info[1], "options");
    ReadOptions options;
    options.type = fields.get<FileType>("type");
    options.begin = fields.get<int64_t>("begin");
    options.count = fields.get<int64_t>("count");
    options.permuted_heads = fields.get<int64_t>("permutedHeads", 0);
    options.shift = fields.get<float>("shift", 0);
    options.head_order = to_head_order(fields);
    options.negated_exp = fields.get<bool>("negatedExp", false);
    if (fields.has("target")) options.target = fields.get<std::string>("target");
    const auto adapters = std::make_shared<AdapterList>(fields);
    const int index = loaded(*model, name);
    return environment(env).channel->start<std::vector<uint8_t>>(
        env,
        over(model,
             [model, index, name, options, adapters](Context& context, const CancelFlag& cancel) {
               const Held held = model->hold(index, options.begin, options.begin + options.count);
               return lowrank::read_weight(context.pool, model->weights[index], name, adapters->list(), options,
                                           cancel);
             }),
        to_value<std::vector<uint8_t>>, adapters->release_uses());
  });
}

Napi::Value ModelHandle::merge_weight(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const auto model = payload(env);
    const std::string name = info[0].ToString();
    const Fields fields(info[1], "options");
    const auto from = unwrap(fields.get("from")).payload(env);
    const auto held = unwrap(fields.get("held")).payload(env);
    const std::string target = fields.get<std::string>("target");
    const auto adapters = std::make_shared<AdapterList>(fields);
    const int index = declared(*model, name), source = loaded(*from, name), reference = loaded(*held, name);
    const GraphWeight& declared = model->graph.weights[index];
    const Weight &like = held->weights[reference], &base = from->weights[source];
    for (const Weight* weight : {&like, &base})
      if (weight->rows() != declared.rows || weight->cols() != declared.cols)
        fail("SHAPE", "weight '", name, "' is [", weight->rows(), ", ", weight->cols(), "] in one model and [",
             declared.rows, ", ", declared.cols, "] in another");
    if (!is_quantized(like.format())) fail("CONFIG", "weight '", name, "' is stored as ", name_of(like.format()));
    grow(env, weight_bytes(like.format(), declared.rows, declared.cols) +
                  constants_bytes(like.format(), declared.rows, declared.cols));
    return environment(env).channel->start<Merged>(
        env,
        over(from,
             over(held,
                  [from, source, held, reference, name, adapters, target](Context& context, const CancelFlag& cancel) {
                    const Held first = from->hold(source), second = held->hold(reference);
                    return lowrank::merge_weight(context.pool, from->weights[source], held->weights[reference], name,
                                                 adapters->list(), target, cancel);
                  })),
        [model, index](Napi::Env e, Merged& merged) -> Napi::Value {
          place(e, *model, index, merged.weight);
          return to_value(e, merged.sums);
        },
        adapters->release_uses());
  });
}

Napi::Value ModelHandle::decompose(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const auto model = payload(env);
    const std::string name = info[0].ToString();
    const Fields fields(info[1], "options");
    DecomposeOptions options;
    options.form = fields.get<FactorForm>("form");
    options.singular = {fields.get<int64_t>("rank"), fields.get<int64_t>("blocks", 0), fields.get<uint64_t>("seed", 0),
                        name};
    if (fields.has("source")) options.source = to_tensor_source(fields.get("source"));
    if (fields.has("target")) options.target = fields.get<std::string>("target");
    const auto adapters = std::make_shared<AdapterList>(fields);
    const int index = loaded(*model, name);
    return environment(env).channel->start<Decomposition>(
        env,
        over(model,
             [model, index, name, options, adapters](Context& context, const CancelFlag&) {
               const Held held = model->hold(index);
               return decompose_weight(context.pool, model->weights[index], name, adapters->list(), options);
             }),
        to_value<Decomposition>, adapters->release_uses());
  });
}

}  // namespace

Napi::Function define_model(Napi::Env env) { return ModelHandle::define(env); }

std::shared_ptr<Model> model_of(Napi::Value handle) { return ModelHandle::unwrap(handle).payload(handle.Env()); }

}  // namespace lowrank::addon
