// The handle of a weight file in the making.
#include "weights/weight_file.h"

#include "addon/arguments.h"
#include "addon/convert.h"
#include "addon/handle.h"

namespace lowrank::addon {
namespace {

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
      const auto model = model_of(info[0]);
      const Fields options(info[1], "weight file");
      const std::vector<StorageFormat> formats = to_formats(model->graph, options.get("formats"));
      hold(std::make_shared<WeightFileInMaking>(model, formats, options.get<std::string>("key"),
                                                options.get<std::string>("path"), options.get<bool>("putAway", false)));
    });
  }

  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "NativeWeightFile",
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
      const int index = declared(*payload(info.Env())->model, info[0].ToString());
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
      const int index = loaded(*payload(info.Env())->model, info[0].ToString());
      return write(info.Env(), [index](Context&, const CancelFlag&, WeightFileInMaking& file) {
        file.writer.write(index, file.model->weights[index]);
      });
    });
  }

  Napi::Value finish(const Napi::CallbackInfo& info) {
    return write(info.Env(), [](Context&, const CancelFlag&, WeightFileInMaking& file) { file.writer.finish(); });
  }
};

}  // namespace

Napi::Function define_weight_file(Napi::Env env) { return WeightFileHandle::define(env); }

}  // namespace lowrank::addon
