// The door between JavaScript and the native core: wrapped objects, argument checks, promises. No maths here; the list
// of what is exported, with its meaning, is lib/native/addon.ts.
#include <napi.h>

#include <algorithm>
#include <utility>

#include "adapters/check.h"
#include "addon/convert.h"
#include "addon/jobs.h"
#include "backends/cpu/device.h"
#include "core/version.h"
#include "optim/private_sum.h"
#include "optim/step.h"
#include "optim/triplets.h"
#include "os/file.h"
#include "os/mapped_file.h"
#include "os/process_memory.h"
#include "runtime/decompose_weight.h"
#include "runtime/weight_file.h"

namespace lowrank::addon {
namespace {

/// State of one JavaScript environment; nothing hangs on globals, so worker threads can load the addon too.
struct Environment {
  std::shared_ptr<Channel> channel;
  Napi::FunctionReference model, adapter, session, weight_file;
};

Environment& environment(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

Napi::Uint8Array bytes(Napi::Env env, const void* data, size_t count) {
  Napi::Uint8Array array = Napi::Uint8Array::New(env, count);
  std::copy_n(static_cast<const uint8_t*>(data), count, array.Data());
  return array;
}

Napi::Value from_doubles(Napi::Env env, std::vector<double>& values) {
  Napi::Float64Array array = Napi::Float64Array::New(env, values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}

Napi::Number number(Napi::Env env, int64_t value) { return Napi::Number::New(env, static_cast<double>(value)); }

/// What ObjectWrap classes share: a payload that dispose() drops, and a tag that keeps handles from being mixed up.
template <class Self, class Payload>
class Handle : public Napi::ObjectWrap<Self> {
 public:
  using Base = Handle;
  explicit Handle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Self>(info) {
    info.This().template As<Napi::Object>().TypeTag(&Self::kTag);
  }

  static Self& unwrap(Napi::Value value) {
    if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&Self::kTag))
      throw Napi::TypeError::New(value.Env(), std::string("lowrank: expected ") + Self::kName);
    return *Napi::ObjectWrap<Self>::Unwrap(value.As<Napi::Object>());
  }

  /// The garbage collector took a handle that was not disposed.
  void Finalize(Napi::BasicEnv env) override {
    if (bytes_ != 0) Napi::MemoryManagement::AdjustExternalMemory(env, -bytes_);
  }

  /// A reference of its own: what JavaScript runs meanwhile, such as a getter, may dispose the handle.
  std::shared_ptr<Payload> payload(Napi::Env env) const {
    if (!payload_) throw to_js(env, "DISPOSED", std::string(Self::kName) + " was disposed");
    return payload_;
  }

 protected:
  void hold(std::shared_ptr<Payload> payload) { payload_ = std::move(payload); }
  /// Reports bytes to the garbage collector, which otherwise sees a few bytes of handle. Only for what a program may forget:
  /// V8 collects once more for every 64 MiB of it, and stops JavaScript for that.
  void grow(Napi::Env env, int64_t bytes) {
    bytes_ += bytes;
    Napi::MemoryManagement::AdjustExternalMemory(env, bytes);
  }
  /// `dispose` as a member of Self, which is what DefineClass takes.
  static Napi::ClassPropertyDescriptor<Self> dispose_method() {
    using Method = Napi::Value (Self::*)(const Napi::CallbackInfo&);
    return Napi::InstanceWrap<Self>::InstanceMethod("dispose", static_cast<Method>(&Handle::dispose));
  }

 private:
  /// Jobs in flight hold their own reference.
  Napi::Value dispose(const Napi::CallbackInfo& info) {
    Napi::MemoryManagement::AdjustExternalMemory(info.Env(), -bytes_);
    bytes_ = 0;
    return environment(info.Env()).channel->release(info.Env(), std::exchange(payload_, nullptr));
  }

  std::shared_ptr<Payload> payload_;
  int64_t bytes_ = 0;
};

/// A job over the weights of a model, whose result counts only if their files were whole all the while.
template <class Work>
auto over(std::shared_ptr<const Model> model, Work work) {
  return [model = std::move(model), work = std::move(work)](Context& context, const CancelFlag& cancel) {
    const auto attempt = [&] {
      try {
        return work(context, cancel);
      } catch (...) {
        model->expect_whole();  // else that is the cause
        throw;
      }
    };
    auto result = attempt();
    model->expect_whole();
    return result;
  };
}

/// The format of every weight of a graph, from an object by name.
std::vector<StorageFormat> to_formats(const Graph& graph, Napi::Value value) {
  const Fields by_name(value, "formats");
  std::vector<StorageFormat> formats;
  for (const GraphWeight& weight : graph.weights)
    formats.push_back(to_storage_format(by_name.get(weight.name.c_str())));
  return formats;
}

/// The budget of a paged base, 0 for the one that is chosen; absent for a base that is not paged.
std::optional<int64_t> to_paged(Napi::Value value) {
  if (!value.IsNumber()) return std::nullopt;
  return value.As<Napi::Number>().Int64Value();
}

class ModelHandle : public Handle<ModelHandle, Model> {
 public:
  static constexpr napi_type_tag kTag{0x6c6f7772616e6b00, 1};
  static constexpr const char* kName = "a model";

  explicit ModelHandle(const Napi::CallbackInfo& info) : Handle(info) {
    guarded(info.Env(), [&] { hold(std::make_shared<Model>(to_graph(info[0]))); });
  }

  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "NativeModel",
                       {InstanceMethod<&ModelHandle::load_weight>("loadWeight"),
                        InstanceMethod<&ModelHandle::map_weights>("mapWeights"),
                        InstanceMethod<&ModelHandle::merge_weight>("mergeWeight"),
                        InstanceMethod<&ModelHandle::missing>("missing"),
                        InstanceMethod<&ModelHandle::paged_bytes>("pagedBytes"),
                        InstanceMethod<&ModelHandle::packed>("packed"), InstanceMethod<&ModelHandle::plan>("plan"),
                        InstanceMethod<&ModelHandle::read_weight>("readWeight"),
                        InstanceMethod<&ModelHandle::decompose>("decompose"), dispose_method()});
  }

 private:
  Napi::Value load_weight(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      const auto model = payload(env);
      const std::string name = info[0].ToString();
      const TensorSource source = to_tensor_source(info[1]);
      const StorageFormat format = to_storage_format(info[2]);
      const int index = declared(*model, name);
      const GraphWeight& expected = model->graph.weights[index];
      if (model->weights[index]) fail("CONFIG", "weight '", name, "' is already loaded");
      if (source.rows != expected.rows || source.cols != expected.cols)
        fail("SHAPE", "tensor '", name, "' in ", source.file, " is [", source.rows, ", ", source.cols,
             "] but the model's config asks for [", expected.rows, ", ", expected.cols, "]");
      if (expected.kind == WeightKind::vector && format != StorageFormat::f32)
        fail("CONFIG", "weight '", name, "' cannot be held as ", name_of(format));
      if (is_blocks(format)) return map_blocks(env, model, index, source, format);
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
      };
      return environment(env).channel->start<Mapped>(
          env,
          [model, path, key, formats, paged](Context&, const CancelFlag&) {
            Mapped mapped{std::make_shared<const WeightFile>(model->graph, formats, key, path, paged.has_value()), {}, nullptr};
            if (!paged) mapped.file->file().prefetch();
            for (size_t i = 0; i < model->weights.size(); ++i)
              mapped.weights.push_back(WeightFile::weight(mapped.file, static_cast<int>(i)));
            if (paged) {
              PageSpans spans(model->graph, mapped.file->layout());
              const int64_t budget = spans.budget(*paged);
              mapped.pager = std::make_unique<Pager>(mapped.file, std::move(spans), budget);
            }
            mapped.file->file().expect_whole();
            model->files[path] = std::shared_ptr<const os::MappedFile>(mapped.file, &mapped.file->file());
            return mapped;
          },
          [model](Napi::Env e, Mapped& mapped) -> Napi::Value {
            Napi::Object result = Napi::Object::New(e);
            result.Set("livesInMemory", mapped.file->file().lives_in_memory());
            if (mapped.pager) {
              const int64_t budget = std::min(mapped.pager->budget(), mapped.pager->spans().bytes);
              model->mapped.emplace_back(Category::paged_weights, budget);
            }
            for (size_t i = 0; i < mapped.weights.size(); ++i) {
              place(e, *model, static_cast<int>(i), mapped.weights[i]);
              const WeightPlace& there = mapped.file->layout().places[i];
              if (there.vector || mapped.pager) continue;
              model->mapped.emplace_back(Category::weights, there.elements());
              model->mapped.emplace_back(Category::quantization_constants, there.constants());
            }
            model->pager = std::move(mapped.pager);
            return result;
          });
    });
  }

  Napi::Value plan(const Napi::CallbackInfo& info);  // below the adapters, which they take
  Napi::Value read_weight(const Napi::CallbackInfo& info);
  Napi::Value merge_weight(const Napi::CallbackInfo& info);
  Napi::Value decompose(const Napi::CallbackInfo& info);

  Napi::Value packed(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&] {
      const auto model = payload(env);
      const int index = loaded(*model, info[0].ToString());
      return environment(env).channel->start<PackedWeight>(
          env,
          over(model,
               [model, index](Context& context, const CancelFlag&) {
                 const Held held = model->hold(index);
                 return pack_weight(context.pool, model->weights[index]);
               }),
          [](Napi::Env e, PackedWeight& packed) -> Napi::Value {
            Napi::Object result = Napi::Object::New(e);
            result.Set("codes", bytes(e, packed.codes.data(), packed.codes.size()));
            result.Set("absmax", bytes(e, packed.absmax.data(), packed.absmax.size()));
            if (packed.nested_absmax.empty()) return result;
            result.Set("nestedAbsmax", bytes(e, packed.nested_absmax.data(), packed.nested_absmax.size() * 4));
            result.Set("absmaxOffset", static_cast<double>(packed.absmax_offset));
            return result;
          });
    });
  }

  /// Placed on JavaScript's thread, which reads the list, and once: no session sees a weight change.
  static void place(Napi::Env env, Model& model, int index, Weight& weight) {
    if (model.weights[index]) throw to_js(env, "CONFIG", "weight '" + model.graph.weights[index].name + "' is already loaded");
    model.weights[index] = std::move(weight);
  }

  Napi::Value paged_bytes(const Napi::CallbackInfo& info) {
    const auto model = payload(info.Env());
    return number(info.Env(), model->pager ? model->pager->resident_bytes() : 0);
  }

  Napi::Value missing(const Napi::CallbackInfo& info) {
    const std::vector<std::string> names = payload(info.Env())->missing();
    Napi::Array array = Napi::Array::New(info.Env(), names.size());
    for (uint32_t i = 0; i < names.size(); ++i) array.Set(i, names[i]);
    return array;
  }

 public:
  /// The place of a weight that the graph declares.
  static int declared(const Model& model, const std::string& name) {
    const auto found = model.graph.weight_of_name.find(name);
    if (found == model.graph.weight_of_name.end()) fail("CONFIG", "the model has no weight '", name, "'");
    return found->second;
  }

  static int loaded(const Model& model, const std::string& name) {
    const int index = declared(model, name);
    if (!model.weights[index]) fail("CONFIG", "weight '", name, "' is not loaded");
    return index;
  }
};

/// A weight file in the making, and the model that it is of.
struct WeightFileInMaking {
  WeightFileInMaking(std::shared_ptr<const Model> of, const std::vector<StorageFormat>& formats, std::string key,
                     const std::string& path, bool put_away)
      : model(std::move(of)), writer(model->graph, formats, std::move(key), path, put_away) {}
  std::shared_ptr<const Model> model;
  WeightFileWriter writer;
};

class WeightFileHandle : public Handle<WeightFileHandle, WeightFileInMaking> {
 public:
  static constexpr napi_type_tag kTag{0x6c6f7772616e6b00, 4};
  static constexpr const char* kName = "a weight file";

  explicit WeightFileHandle(const Napi::CallbackInfo& info) : Handle(info) {
    guarded(info.Env(), [&] {
      const auto model = ModelHandle::unwrap(info[0]).payload(info.Env());
      const Fields options(info[1], "weight file");
      const std::vector<StorageFormat> formats = to_formats(model->graph, options.get("formats"));
      hold(std::make_shared<WeightFileInMaking>(model, formats, options.text("key"), options.text("path"),
                                                options.flag("putAway", false)));
    });
  }

  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "NativeWeightFile",
                       {InstanceMethod<&WeightFileHandle::store>("store"), InstanceMethod<&WeightFileHandle::copy>("copy"),
                        InstanceMethod<&WeightFileHandle::finish>("finish"), dispose_method()});
  }

 private:
  /// A job that writes.
  Napi::Value write(Napi::Env env, std::function<void(Context&, const CancelFlag&, WeightFileInMaking&)> work) {
    const auto file = payload(env);
    return environment(env).channel->start<bool>(
        env,
        over(file->model,
             [file, work = std::move(work)](Context& context, const CancelFlag& cancel) {
               return work(context, cancel, *file), true;
             }),
        [](Napi::Env e, bool&) -> Napi::Value { return e.Undefined(); });
  }

  Napi::Value store(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const int index = ModelHandle::declared(*payload(info.Env())->model, info[0].ToString());
      const TensorSource source = to_tensor_source(info[1]);
      return write(info.Env(), [index, source](Context& context, const CancelFlag& cancel, WeightFileInMaking& file) {
        LoadOptions options;
        options.cancel = cancel.get();
        file.writer.store(context.pool, source, index, options);
      });
    });
  }

  Napi::Value copy(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const int index = ModelHandle::loaded(*payload(info.Env())->model, info[0].ToString());
      return write(info.Env(), [index](Context&, const CancelFlag&, WeightFileInMaking& file) {
        file.writer.write(index, file.model->weights[index]);
      });
    });
  }

  Napi::Value finish(const Napi::CallbackInfo& info) {
    return write(info.Env(), [](Context&, const CancelFlag&, WeightFileInMaking& file) { file.writer.finish(); });
  }
};

class AdapterHandle : public Handle<AdapterHandle, Adapter> {
 public:
  static constexpr napi_type_tag kTag{0x6c6f7772616e6b00, 2};
  static constexpr const char* kName = "an adapter";

  explicit AdapterHandle(const Napi::CallbackInfo& info) : Handle(info) {
    guarded(info.Env(), [&] {
      AdapterSpec spec = to_adapter_spec(info[0]);
      const Fields options(info[1], "options");
      spec.trainable = options.flag("trainable", false);
      spec.state = to_state_spec(options);
      hold(std::make_shared<Adapter>(std::move(spec)));
    });
  }

  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "NativeAdapter",
                       {InstanceMethod<&AdapterHandle::fill>("fill"), InstanceMethod<&AdapterHandle::read>("read"),
                        InstanceMethod<&AdapterHandle::write>("write"),
                        InstanceMethod<&AdapterHandle::copy_weight>("copyWeight"),
                        InstanceMethod<&AdapterHandle::fill_row_norms>("fillRowNorms"),
                        InstanceMethod<&AdapterHandle::arrays>("arrays"),
                        InstanceMethod<&AdapterHandle::state>("state"),
                        InstanceMethod<&AdapterHandle::read_state>("readState"),
                        InstanceMethod<&AdapterHandle::write_state>("writeState"),
                        InstanceMethod<&AdapterHandle::restart>("restart"),
                        InstanceMethod<&AdapterHandle::drop_importances>("dropImportances"),
                        InstanceMethod<&AdapterHandle::scores>("tripletScores"),
                        InstanceMethod<&AdapterHandle::prune>("pruneTriplets"),
                        InstanceMethod<&AdapterHandle::zero_gradients>("zeroGradients"),
                        InstanceMethod<&AdapterHandle::begin_round>("beginRound"),
                        InstanceMethod<&AdapterHandle::begin_client>("beginClient"),
                        InstanceMethod<&AdapterHandle::add_client>("addClient"),
                        InstanceMethod<&AdapterHandle::release>("release"),
                        InstanceMethod<&AdapterHandle::step>("optimizerStep"), dispose_method()});
  }

 private:
  static constexpr const char* kArrays[] = {"value", "gradient", "sensitivity", "uncertainty"};

  struct Array {
    std::shared_ptr<Adapter> owner;
    float* data;
    int64_t count;
    std::string name;
  };

  /// The named array of a parameter; throws where it has none, and while a job uses it.
  Array array(const Napi::CallbackInfo& info, AdapterArray which, Touch touch) const {
    const std::string name = info[0].ToString();
    const auto owner = payload(info.Env());
    const Adapter& adapter = *owner;
    adapter.expect_idle(which, touch);
    const int index = adapter.parameter(name);
    const ParameterSpec& p = adapter.spec().parameters[index];
    float* const data = adapter.data(index, which);
    if (data == nullptr)
      fail("CONFIG", "adapter parameter '", name, "' has no ", kArrays[static_cast<int>(which)],
           adapter.spec().trains(index) ? "" : ": it is not trained");
    if (which == AdapterArray::value && touch == Touch::write) owner->values_changed();
    return {owner, data, p.rows * p.cols, name};
  }

  static AdapterArray which(Napi::Value value) {
    Napi::Object holder = Napi::Object::New(value.Env());
    holder.Set("array", value);
    return static_cast<AdapterArray>(Fields(holder, "adapter").choice("array", kArrays));
  }

  Napi::Value fill(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const Fields fields(info[1], "fill");
      static constexpr const char* kKinds[] = {"zeros", "constant", "uniform", "normal"};
      static constexpr const char* kParameters[] = {nullptr, "value", "bound", "std"};
      const int kind = fields.choice("kind", kKinds);
      const float number = kind > 0 ? static_cast<float>(fields.number(kParameters[kind])) : 0;
      const uint64_t seed = kind > 1 ? static_cast<uint64_t>(fields.integer("seed")) : 0;
      const Array a = array(info, AdapterArray::value, Touch::write);
      if (kind < 2) std::fill(a.data, a.data + a.count, number);
      if (kind == 2) fill_uniform(a.data, a.count, number, seed, a.name);
      if (kind == 3) fill_normal(a.data, a.count, number, seed, a.name);
      return info.Env().Undefined();
    });
  }

  /// What `count` elements are read into: the third argument, from the element on that the fourth says, or a new array.
  template <class Out>
  static std::pair<Out, int64_t> stretch(const Napi::CallbackInfo& info, napi_typedarray_type type, int64_t count) {
    if (info[2].IsUndefined()) return {Out::New(info.Env(), static_cast<size_t>(count)), 0};
    if (!info[2].IsTypedArray() || info[2].As<Napi::TypedArray>().TypedArrayType() != type)
      throw Napi::TypeError::New(info.Env(), "lowrank: out must be an array of the type that is read");
    const Out out = info[2].As<Out>();
    const auto length = static_cast<int64_t>(out.ElementLength());
    const int64_t begin = info[3].IsUndefined() ? 0 : info[3].ToNumber().Int64Value();
    if (begin < 0 || begin > count - length)
      fail("SHAPE", "elements from ", begin, " to ", begin + length, " are asked for, of ", count);
    return {out, begin};
  }

  Napi::Value read(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const Array a = array(info, which(info[1]), Touch::read);
      auto [out, begin] = stretch<Napi::Float32Array>(info, napi_float32_array, a.count);
      std::copy_n(a.data + begin, out.ElementLength(), out.Data());
      return out;
    });
  }

  Napi::Value write(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const Array a = array(info, which(info[1]), Touch::write);
      if (!info[2].IsTypedArray() || info[2].As<Napi::TypedArray>().TypedArrayType() != napi_float32_array)
        throw Napi::TypeError::New(info.Env(), "lowrank: values must be a Float32Array");
      const Napi::Float32Array values = info[2].As<Napi::Float32Array>();
      if (static_cast<int64_t>(values.ElementLength()) != a.count)
        fail("SHAPE", "adapter parameter '", a.name, "' has ", a.count, " elements, not ", values.ElementLength());
      std::copy(values.Data(), values.Data() + a.count, a.data);
      return info.Env().Undefined();
    });
  }

  Napi::Value copy_weight(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&] {
      const auto adapter = payload(env);
      const int parameter = adapter->parameter(info[0].ToString());
      const auto model = ModelHandle::unwrap(info[1]).payload(env);
      const std::string weight = info[2].ToString();
      const auto use = std::make_shared<AdapterUse>(adapter, AdapterUse::Kind::update);
      return environment(env).channel->start<bool>(
          env,
          over(model,
               [adapter, parameter, model, weight](Context& context, const CancelFlag&) {
                 copy_weight_into(context, *model, weight, *adapter, parameter);
                 return true;
               }),
          [](Napi::Env e, bool&) -> Napi::Value { return e.Undefined(); }, use);
    });
  }

  Napi::Value fill_row_norms(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&] {
      const auto adapter = payload(env);
      const int parameter = adapter->parameter(info[0].ToString());
      const auto model = ModelHandle::unwrap(info[1]).payload(env);
      const auto use = std::make_shared<AdapterUse>(adapter, AdapterUse::Kind::update);
      return environment(env).channel->start<bool>(
          env,
          over(model,
               [adapter, parameter, model](Context& context, const CancelFlag&) {
                 lowrank::fill_row_norms(context, *model, *adapter, parameter);
                 return true;
               }),
          [](Napi::Env e, bool&) -> Napi::Value { return e.Undefined(); }, use);
    });
  }

  Napi::Value arrays(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const auto adapter = payload(info.Env());
      const int index = adapter->parameter(info[0].ToString());
      Napi::Array names = Napi::Array::New(info.Env());
      for (size_t i = 0; i < std::size(kArrays); ++i)
        if (adapter->data(index, static_cast<AdapterArray>(i)) != nullptr) names.Set(names.Length(), kArrays[i]);
      return names;
    });
  }

  /// A tensor of a parameter's state, and what keeps it alive.
  struct HeldState {
    std::shared_ptr<Adapter> owner;
    int parameter;
    StateTensor tensor;
  };

  /// Those of a parameter; none of one that is not trained. Throws while a job uses the adapter.
  std::vector<HeldState> state_of(const Napi::CallbackInfo& info, Touch touch) const {
    const std::string name = info[0].ToString();
    const auto owner = payload(info.Env());
    owner->expect_idle(AdapterArray::gradient, touch);
    const int index = owner->parameter(name);
    std::vector<HeldState> held;
    if (!owner->spec().trains(index)) return held;
    for (StateTensor& tensor : owner->state().tensors(index)) held.push_back({owner, index, std::move(tensor)});
    return held;
  }

  HeldState state_tensor(const Napi::CallbackInfo& info, Touch touch) const {
    const std::string name = info[1].ToString();
    for (HeldState& held : state_of(info, touch))
      if (held.tensor.name == name) return std::move(held);
    fail("CONFIG", "adapter parameter '", info[0].ToString().Utf8Value(), "' has no state ", name);
  }

  Napi::Value state(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      Napi::Array list = Napi::Array::New(info.Env());
      for (const auto& [owner, parameter, tensor] : state_of(info, Touch::read)) {
        Napi::Object item = Napi::Object::New(info.Env());
        item.Set("name", tensor.name);
        item.Set("dtype", tensor.codes ? "U8" : "F32");
        Napi::Array shape = Napi::Array::New(info.Env(), tensor.shape.size());
        for (uint32_t i = 0; i < shape.Length(); ++i) shape.Set(i, static_cast<double>(tensor.shape[i]));
        item.Set("shape", shape);
        list.Set(list.Length(), item);
      }
      return list;
    });
  }

  Napi::Value read_state(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const auto [owner, parameter, tensor] = state_tensor(info, Touch::read);
      auto [out, begin] = stretch<Napi::Uint8Array>(info, napi_uint8_array, tensor.bytes);
      owner->state().read(parameter, tensor.name, begin, static_cast<int64_t>(out.ElementLength()),
                          reinterpret_cast<std::byte*>(out.Data()));
      return out;
    });
  }

  Napi::Value write_state(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const auto [owner, parameter, tensor] = state_tensor(info, Touch::write);
      if (!info[2].IsTypedArray() || info[2].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
        throw Napi::TypeError::New(info.Env(), "lowrank: bytes must be a Uint8Array");
      const Napi::Uint8Array bytes = info[2].As<Napi::Uint8Array>();
      if (static_cast<int64_t>(bytes.ByteLength()) != tensor.bytes)
        fail("SHAPE", "the state ", tensor.name, " has ", tensor.bytes, " bytes, not ", bytes.ByteLength());
      owner->state().write(parameter, tensor.name, reinterpret_cast<const std::byte*>(bytes.Data()));
      return info.Env().Undefined();
    });
  }

  /// Memory is cleared on the engine thread, for the system takes a while to take back what was written.
  Napi::Value restart(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const auto adapter = payload(info.Env());
      adapter->expect_idle(AdapterArray::gradient, Touch::write);
      if (!info[0].IsUndefined()) {
        Napi::Object holder = Napi::Object::New(info.Env());
        holder.Set("state", info[0]);
        // On this thread, on which plans look at it.
        adapter->set_state(to_state_spec(Fields(holder, "restart")));
      }
      return change<bool>(info.Env(), [](Context&, Adapter& adapter) { return adapter.restart(), true; }, nothing);
    });
  }

  Napi::Value drop_importances(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const auto adapter = payload(info.Env());
      adapter->expect_idle(AdapterArray::sensitivity, Touch::write);
      adapter->drop_importances();
      return info.Env().Undefined();
    });
  }

  Napi::Value scores(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto adapter = payload(env);
    const auto use = std::make_shared<AdapterUse>(adapter, AdapterUse::Kind::update);
    return environment(env).channel->start<std::vector<double>>(
        env, [adapter](Context& context, const CancelFlag&) { return triplet_scores(context.pool, *adapter); },
        from_doubles, use);
  }

  Napi::Value prune(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto adapter = payload(env);
    if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
      throw Napi::TypeError::New(env, "lowrank: keep must be a Uint8Array");
    const Napi::Uint8Array given = info[0].As<Napi::Uint8Array>();
    const std::vector<uint8_t> keep(given.Data(), given.Data() + given.ElementLength());
    const auto use = std::make_shared<AdapterUse>(adapter, AdapterUse::Kind::update);
    return environment(env).channel->start<bool>(
        env,
        [adapter, keep](Context&, const CancelFlag&) {
          prune_triplets(*adapter, keep);
          return true;
        },
        [](Napi::Env e, bool&) -> Napi::Value { return e.Undefined(); }, use);
  }

  Napi::Value zero_gradients(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      payload(info.Env())->expect_idle(AdapterArray::gradient, Touch::write);
      return change<bool>(
          info.Env(), [](Context&, Adapter& adapter) { return adapter.zero_gradients(), true; }, nothing);
    });
  }

  /// A job that changes the adapter.
  template <class Result, class Work, class Convert>
  Napi::Value change(Napi::Env env, Work work, Convert convert) {
    const auto adapter = payload(env);
    const auto use = std::make_shared<AdapterUse>(adapter, AdapterUse::Kind::update);
    return environment(env).channel->start<Result>(
        env, [adapter, work](Context& context, const CancelFlag&) { return work(context, *adapter); }, convert, use);
  }
  static Napi::Value nothing(Napi::Env env, bool&) { return env.Undefined(); }

  Napi::Value begin_round(const Napi::CallbackInfo& info) {
    return change<bool>(
        info.Env(), [](Context&, Adapter& adapter) { return lowrank::begin_round(adapter), true; }, nothing);
  }

  Napi::Value begin_client(const Napi::CallbackInfo& info) {
    return change<bool>(
        info.Env(), [](Context&, Adapter& adapter) { return lowrank::begin_client(adapter), true; }, nothing);
  }

  Napi::Value add_client(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const Fields fields(info[0], "client");
      const TrainedRanks ranks = to_trained_ranks(fields);
      const double bound = fields.number("clippingNorm");
      return change<double>(
          info.Env(),
          [ranks, bound](Context& context, Adapter& adapter) {
            return lowrank::add_client(context, adapter, ranks, bound);
          },
          [](Napi::Env env, double& norm) -> Napi::Value { return Napi::Number::New(env, norm); });
    });
  }

  Napi::Value release(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const Fields fields(info[0], "release");
      const TrainedRanks ranks = to_trained_ranks(fields);
      ReleaseNoise noise;
      noise.round = static_cast<uint64_t>(fields.integer("round"));
      noise.deviation = fields.number("deviation");
      const Napi::Value key = fields.get("key");
      if (!key.IsTypedArray() || key.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array ||
          key.As<Napi::TypedArray>().ByteLength() != noise.key.size())
        fields.wrong("key", "a Uint8Array of 32 bytes");
      std::copy_n(key.As<Napi::Uint8Array>().Data(), noise.key.size(), noise.key.begin());
      const double cohort = fields.number("cohort");
      return change<bool>(
          info.Env(),
          [ranks, noise, cohort](Context& context, Adapter& adapter) {
            return lowrank::release(context, adapter, ranks, noise, cohort), true;
          },
          nothing);
    });
  }

  Napi::Value step(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&] {
      const auto adapter = payload(env);
      const OptimizerStep options = to_optimizer_step(info[0]);
      const auto use = std::make_shared<AdapterUse>(adapter, AdapterUse::Kind::update);
      return environment(env).channel->start<double>(
          env,
          [adapter, options](Context& context, const CancelFlag&) {
            return optimizer_step(context, *adapter, options);
          },
          [](Napi::Env e, double& norm) -> Napi::Value {
            Napi::Object result = Napi::Object::New(e);
            result.Set("gradNorm", norm);
            return result;
          },
          use);
    });
  }
};

/// Adapters that a weight is read with, for a job to capture.
class AdapterList {
 public:
  AdapterList(Napi::Env env, const Fields& options) {
    for (const Napi::Value item : options.list("adapters")) {
      const Fields entry(item, "options.adapters");
      owners_.push_back(AdapterHandle::unwrap(entry.get("adapter")).payload(env));
      uses_->emplace_back(owners_.back(), AdapterUse::Kind::infer);
      list_.push_back(
          {owners_.back().get(), static_cast<float>(entry.number("weight", 1)), entry.integer("rank", 0)});
    }
  }

  const std::vector<WeightedAdapter>& list() const { return list_; }
  /// To be held until the job's promise settles.
  std::shared_ptr<void> release_uses() { return std::exchange(uses_, nullptr); }

 private:
  std::vector<std::shared_ptr<Adapter>> owners_;
  std::shared_ptr<std::vector<AdapterUse>> uses_ = std::make_shared<std::vector<AdapterUse>>();
  std::vector<WeightedAdapter> list_;
};

Napi::Value ModelHandle::plan(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const auto model = payload(env);
    model->expect_loaded();
    if (!info[0].IsArray()) throw Napi::TypeError::New(env, "lowrank: adapters must be an array");
    const Napi::Array list = info[0].As<Napi::Array>();
    std::vector<AdapterSpec> specs;
    for (uint32_t i = 0; i < list.Length(); ++i) {
      const Fields item(list.Get(i), "adapters");
      specs.push_back(AdapterHandle::unwrap(item.get("adapter")).payload(env)->spec());
      specs.back().state = to_state_spec(item);
    }
    std::vector<const AdapterSpec*> adapters;
    for (const AdapterSpec& spec : specs) adapters.push_back(&spec);
    std::map<std::string, Plan> plans;
    const cpu::CpuSizes sizes(Engine::instance().threads());
    for (const auto& [name, options] : to_plans(info[1]))
      plans.emplace(name, make_plan(sizes, model->graph, adapters, options));
    return from_report(env, report_plans(*model, adapters, plans));
  });
}

Napi::Value ModelHandle::read_weight(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const auto model = payload(env);
    const std::string name = info[0].ToString();
    const Fields fields(info[1], "options");
    static constexpr const char* kTypes[] = {"f32", "bf16", "f16", "q8_0"};
    ReadOptions options;
    options.type = static_cast<FileType>(fields.choice("type", kTypes));
    options.begin = fields.integer("begin");
    options.count = fields.integer("count");
    options.permuted_heads = fields.integer("permutedHeads", 0);
    if (fields.has("target")) options.target = fields.text("target");
    const auto adapters = std::make_shared<AdapterList>(env, fields);
    const int index = loaded(*model, name);
    return environment(env).channel->start<std::vector<uint8_t>>(
        env,
        over(model,
             [model, index, name, options, adapters](Context& context, const CancelFlag& cancel) {
               const Held held = model->hold(index, options.begin, options.begin + options.count);
               return lowrank::read_weight(context.pool, model->weights[index], name, adapters->list(), options, cancel);
             }),
        [](Napi::Env e, std::vector<uint8_t>& bytes) -> Napi::Value {
          Napi::Uint8Array array = Napi::Uint8Array::New(e, bytes.size());
          std::copy(bytes.begin(), bytes.end(), array.Data());
          return array;
        },
        adapters->release_uses());
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
    const std::string target = fields.text("target");
    const auto adapters = std::make_shared<AdapterList>(env, fields);
    const int index = declared(*model, name), source = loaded(*from, name), reference = loaded(*held, name);
    const GraphWeight& declared = model->graph.weights[index];
    const Weight &like = held->weights[reference], &base = from->weights[source];
    for (const Weight* weight : {&like, &base})
      if (weight->rows() != declared.rows || weight->cols() != declared.cols)
        fail("SHAPE", "weight '", name, "' is [", weight->rows(), ", ", weight->cols(), "] in one model and [",
             declared.rows, ", ", declared.cols, "] in another");
    if (!is_quantized(like.format())) fail("CONFIG", "weight '", name, "' is held as ", name_of(like.format()));
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
          Napi::Object result = Napi::Object::New(e);
          result.Set("change", merged.survival.change);
          result.Set("kept", merged.survival.kept);
          result.Set("error", merged.survival.error);
          return result;
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
    static constexpr const char* kForms[] = {"svd", "qr"};
    DecomposeOptions options;
    options.form = static_cast<FactorForm>(fields.choice("form", kForms));
    options.singular = {fields.integer("rank"), fields.integer("blocks", 0),
                        static_cast<uint64_t>(fields.integer("seed", 0)), name};
    if (fields.has("source")) options.source = to_tensor_source(fields.get("source"));
    if (fields.has("target")) options.target = fields.text("target");
    const auto adapters = std::make_shared<AdapterList>(env, fields);
    const int index = loaded(*model, name);
    return environment(env).channel->start<Factors>(
        env,
        over(model,
             [model, index, name, options, adapters](Context& context, const CancelFlag&) {
               const Held held = model->hold(index);
               return decompose_weight(context.pool, model->weights[index], name, adapters->list(), options);
             }),
        [](Napi::Env e, Factors& factors) -> Napi::Value {
          const auto floats = [&](const std::vector<float>& values) {
            Napi::Float32Array array = Napi::Float32Array::New(e, values.size());
            std::copy(values.begin(), values.end(), array.Data());
            return array;
          };
          Napi::Object result = Napi::Object::New(e);
          result.Set("a", floats(factors.a));
          result.Set("b", floats(factors.b));
          result.Set("square", factors.square);
          result.Set("kept", factors.kept);
          return result;
        },
        adapters->release_uses());
  });
}

Napi::Value from_loss(Napi::Env env, LossResult& loss) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("lossSum", loss.loss_sum);
  result.Set("count", number(env, loss.count));
  if (!loss.norms.empty()) result.Set("norms", from_doubles(env, loss.norms));
  if (loss.grad_norm) result.Set("gradNorm", *loss.grad_norm);
  return result;
}

/// What a job over the session does with its adapters, until its promise settles.
std::shared_ptr<std::vector<AdapterUse>> use_adapters(const Session& session, AdapterUse::Kind kind) {
  auto uses = std::make_shared<std::vector<AdapterUse>>();
  for (const auto& adapter : session.adapters()) uses->emplace_back(adapter, kind);
  return uses;
}

class SessionHandle : public Handle<SessionHandle, Session> {
 public:
  static constexpr napi_type_tag kTag{0x6c6f7772616e6b00, 3};
  static constexpr const char* kName = "a session";

  /// @param info what `open` made: an external that points to a shared pointer
  explicit SessionHandle(const Napi::CallbackInfo& info) : Handle(info) {
    if (!info[0].IsExternal()) throw Napi::TypeError::New(info.Env(), "lowrank: sessions are opened by createSession");
    hold(*info[0].As<Napi::External<std::shared_ptr<Session>>>().Data());
  }

  /// Plans, and allocates, on the engine thread.
  static Napi::Value open(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&] {
      const auto model = ModelHandle::unwrap(info[0]).payload(env);
      // Weights are placed on this thread, all of them before a session may look at them on another.
      model->expect_loaded();
      std::vector<std::shared_ptr<Adapter>> adapters;
      if (!info[1].IsArray()) throw Napi::TypeError::New(env, "lowrank: adapters must be an array");
      const Napi::Array list = info[1].As<Napi::Array>();
      for (uint32_t i = 0; i < list.Length(); ++i) adapters.push_back(AdapterHandle::unwrap(list.Get(i)).payload(env));
      std::vector<float> weights;
      if (info[3].IsArray()) {
        const Napi::Array given = info[3].As<Napi::Array>();
        for (uint32_t i = 0; i < given.Length(); ++i) weights.push_back(given.Get(i).ToNumber().FloatValue());
      }
      std::vector<int64_t> ranks;
      if (info[4].IsArray()) {
        const Napi::Array given = info[4].As<Napi::Array>();
        for (uint32_t i = 0; i < given.Length(); ++i) ranks.push_back(given.Get(i).ToNumber().Int64Value());
      }
      return environment(env).channel->start<std::shared_ptr<Session>>(
          env,
          [model, adapters, plans = to_plans(info[2]), weights, ranks](Context& context, const CancelFlag&) {
            return std::make_shared<Session>(context, model, adapters, plans, weights, ranks);
          },
          [](Napi::Env e, std::shared_ptr<Session>& session) -> Napi::Value {
            return environment(e).session.New({Napi::External<std::shared_ptr<Session>>::New(e, &session)});
          });
    });
  }

  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "NativeSession",
        {InstanceMethod<&SessionHandle::report>("report"), InstanceMethod<&SessionHandle::total>("total"),
         InstanceMethod<&SessionHandle::train_step>("trainStep"), InstanceMethod<&SessionHandle::evaluate>("evaluate"),
         InstanceMethod<&SessionHandle::output_norms>("outputNorms"),
         InstanceMethod<&SessionHandle::forward>("forward"), dispose_method()});
  }

 private:
  Napi::Value report(const Napi::CallbackInfo& info) {
    return guarded(info.Env(),
                   [&] { return from_report(info.Env(), payload(info.Env())->report(info[0].ToString())); });
  }

  Napi::Value total(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] { return from_report(info.Env(), payload(info.Env())->total()); });
  }

  Napi::Value train_step(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto session = payload(env);
    const std::string plan = info[0].ToString();
    auto input = std::make_shared<TrainInput>(to_train_input(info[1]));
    const auto uses = use_adapters(*session, input->update ? AdapterUse::Kind::update : AdapterUse::Kind::train);
    return environment(env).channel->start<LossResult>(
        env,
        [session, plan, input](Context& context, const CancelFlag& cancel) {
          return session->train_step(context, plan, *input, cancel);
        },
        from_loss, uses);
  }

  Napi::Value evaluate(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto session = payload(env);
    const std::string plan = info[0].ToString();
    auto batch = std::make_shared<MicroBatch>(to_micro_batch(Fields(info[1], "input")));
    const auto uses = use_adapters(*session, AdapterUse::Kind::infer);
    return environment(env).channel->start<LossResult>(
        env,
        [session, plan, batch](Context& context, const CancelFlag& cancel) {
          return session->evaluate(context, plan, *batch, cancel);
        },
        from_loss, uses);
  }

  Napi::Value output_norms(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto session = payload(env);
    const auto uses = use_adapters(*session, AdapterUse::Kind::infer);
    return environment(env).channel->start<std::vector<double>>(
        env, [session](Context&, const CancelFlag&) { return session->output_norms(); }, from_doubles, uses);
  }

  Napi::Value forward(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto session = payload(env);
    const std::string plan = info[0].ToString();
    const Fields fields(info[1], "input");
    auto input = std::make_shared<ForwardInput>(to_forward_input(fields));
    const bool want_logits = fields.flag("wantLogits", false);
    const std::optional<Sampling> sampling = to_sampling(fields);
    if (sampling && input->rows.empty()) throw to_js(env, "SHAPE", "a token is drawn from the last row, and no row is wanted");
    struct Drawn {
      std::optional<int32_t> token;
      std::vector<float> logits;
    };
    const auto uses = use_adapters(*session, AdapterUse::Kind::infer);
    return environment(env).channel->start<Drawn>(
        env,
        [session, plan, input, want_logits, sampling](Context& context, const CancelFlag& cancel) {
          const float* logits = session->forward(context, plan, *input, cancel);
          const int64_t vocab = session->graph().vocab_size, rows = static_cast<int64_t>(input->rows.size());
          Drawn drawn;
          if (sampling) drawn.token = sample_token(logits + (rows - 1) * vocab, vocab, *sampling);
          if (want_logits) drawn.logits.assign(logits, logits + rows * vocab);
          return drawn;
        },
        [want_logits](Napi::Env e, Drawn& drawn) -> Napi::Value {
          Napi::Object result = Napi::Object::New(e);
          if (drawn.token) result.Set("token", *drawn.token);
          if (want_logits) {
            Napi::Float32Array logits = Napi::Float32Array::New(e, drawn.logits.size());
            std::copy(drawn.logits.begin(), drawn.logits.end(), logits.Data());
            result.Set("logits", logits);
          }
          return result;
        },
        uses);
  }
};

Napi::Value cpu_info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const Engine& engine = Engine::instance();
    Napi::Object object = Napi::Object::New(env);
    object.Set("isa", cpu::name_of(engine.level()));
    Napi::Array levels = Napi::Array::New(env);
    for (const cpu::Level level : cpu::kLevels)
      if (cpu::available(level)) levels.Set(levels.Length(), cpu::name_of(level));
    object.Set("levels", levels);
    object.Set("threads", engine.threads());
    object.Set("cores", usable_cores());
    object.Set("prefersBf16", cpu::prefers_bf16(engine.level()));
    return object;
  });
}

Napi::Value configure(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const Fields fields(info[0], "options");
    const int64_t threads = fields.integer("threads", 0);
    if (threads < 0 || threads > 1024) fail("CONFIG", "threads is ", threads, "; expected 1 to 1024");
    std::optional<cpu::Level> level;
    if (fields.has("isa")) {
      const std::string name = fields.text("isa");
      std::string known;
      for (const cpu::Level each : cpu::kLevels) {
        if (name == cpu::name_of(each)) level = each;
        known += (known.empty() ? "" : ", ") + std::string(cpu::name_of(each));
      }
      if (!level) fail("CONFIG", "isa is '", name, "'; expected one of ", known);
    }
    Engine::instance().configure(static_cast<int>(threads), level);
    return info.Env().Undefined();
  });
}

Napi::Value allocated(const Napi::CallbackInfo& info) {
  Napi::Object object = Napi::Object::New(info.Env());
  for (int c = 0; c < kCategories; ++c)
    object.Set(name_of(static_cast<Category>(c)), number(info.Env(), allocated_bytes(static_cast<Category>(c))));
  return object;
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
    static constexpr const char* kNames[] = {"taken", "held", "unsupported"};
    const os::FileLock lock = os::lock_file(info[0].ToNumber().Int32Value());
    return Napi::String::New(info.Env(), kNames[static_cast<int>(lock)]);
  });
}

Napi::Value reset_peak(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), os::reset_peak_resident());
}

Napi::Value plan(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    Graph graph = to_graph(info[0]);
    graph.check();
    const std::vector<StorageFormat> formats = to_formats(graph, info[1]);
    if (!info[2].IsArray()) throw Napi::TypeError::New(env, "lowrank: adapters must be an array");
    const Napi::Array list = info[2].As<Napi::Array>();
    std::vector<AdapterSpec> specs;
    for (uint32_t i = 0; i < list.Length(); ++i) {
      const Fields item(list.Get(i), "adapters");
      specs.push_back(to_adapter_spec(item.get("spec")));
      specs.back().trainable = item.flag("trainable", false);
      specs.back().state = to_state_spec(item);
      check_adapter(specs.back());
    }
    std::vector<const AdapterSpec*> adapters;
    for (const AdapterSpec& spec : specs) adapters.push_back(&spec);
    const cpu::CpuSizes sizes(info[4].IsNumber() ? info[4].ToNumber().Int32Value() : Engine::instance().threads());
    std::map<std::string, Plan> plans;
    for (const auto& [name, options] : to_plans(info[3]))
      plans.emplace(name, make_plan(sizes, graph, adapters, options));
    const std::optional<int64_t> paged = to_paged(info[5]);
    if (!paged) return from_report(env, report_plans(graph, formats, adapters, plans));
    PageSpans spans(graph, WeightLayout(graph, formats));
    const int64_t budget = spans.budget(*paged);
    const Paging paging{std::move(spans), budget};
    return from_report(env, report_plans(graph, formats, adapters, plans, &paging));
  });
}

Napi::Value dump(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const auto session = SessionHandle::unwrap(info[0]).payload(info.Env());
    const Plan& p = session->plan(info[1].ToString());
    const std::string what = info[2].ToString();
    const std::string text = what == "graph"   ? session->graph().to_text()
                             : what == "arena" ? p.arena_text()
                             : what == "times" ? session->times_text()
                                               : p.steps_text(session->graph());
    return Napi::String::New(info.Env(), text);
  });
}

Napi::Value time_kernels(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    return environment(env).channel->start<KernelTimes>(
        env,
        [study = to_kernel_study(info[0])](Context& context, const CancelFlag& cancel) {
          return lowrank::time_kernels(context, study, cancel);
        },
        [](Napi::Env e, KernelTimes& times) { return from_kernel_times(e, times); });
  });
}

Napi::Value arithmetic_peak(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const Fields fields(info[0], "options");
    const Precision precision = to_precision(fields);
    const int rounds = fields.index("rounds");
    return environment(env).channel->start<std::optional<double>>(
        env,
        [precision, rounds](Context& context, const CancelFlag&) {
          return lowrank::arithmetic_peak(context, precision, rounds);
        },
        [](Napi::Env e, std::optional<double>& peak) { return peak ? Napi::Value(Napi::Number::New(e, *peak)) : e.Null(); });
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
  auto* state = new Environment;
  state->channel = Channel::open(env);
  state->model = Napi::Persistent(ModelHandle::define(env));
  state->adapter = Napi::Persistent(AdapterHandle::define(env));
  state->session = Napi::Persistent(SessionHandle::define(env));
  state->weight_file = Napi::Persistent(WeightFileHandle::define(env));
  env.SetInstanceData(state);
  // Runs when the event loop drains or a worker ends, but not on process.exit(): lib/native/addon.ts covers that door.
  env.AddCleanupHook([channel = state->channel] { channel->close(); });

  const auto method = [&](const char* name, Napi::Value (*call)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, call, name));
  };
  exports.Set("version", version());
  method("cpu", cpu_info);
  method("configure", configure);
  method("allocated", allocated);
  method("residentBytes", resident_bytes);
  method("resetPeak", reset_peak);
  method("cachedBytes", cached_bytes);
  method("lockFile", lock_file);
  method("createModel", create<&Environment::model>);
  method("createAdapter", create<&Environment::adapter>);
  method("createSession", SessionHandle::open);
  method("createWeightFile", create<&Environment::weight_file>);
  method("plan", plan);
  method("timeKernels", time_kernels);
  method("arithmeticPeak", arithmetic_peak);
  method("dump", dump);
  method("shutdown", shutdown);
  return exports;
}

}  // namespace
}  // namespace lowrank::addon

using lowrank::addon::register_addon;
NODE_API_MODULE(lowrank, register_addon)
