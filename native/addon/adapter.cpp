// The handle of an adapter: its arrays, its optimizer and its private rounds.
#include <algorithm>
#include <utility>

#include "adapters/digest.h"
#include "addon/arguments.h"
#include "addon/convert.h"
#include "addon/handle.h"
#include "addon/values.h"
#include "comm/sum.h"
#include "core/error.h"
#include "optim/private_sum.h"
#include "optim/step.h"
#include "optim/triplets.h"

namespace lowrank::addon {
namespace {

class AdapterHandle : public Handle<AdapterHandle, Adapter> {
 public:
  static constexpr napi_type_tag kTag{0x6c6f7772616e6b00, 2};
  static constexpr const char* kName = "an adapter";

  explicit AdapterHandle(const Napi::CallbackInfo& info) : Handle(info) {
    guarded(info.Env(), [&] {
      AdapterSpec spec = to_adapter_spec(info[0]);
      const Fields options(info[1], "options");
      spec.trainable = options.get<bool>("trainable", false);
      spec.state = options.get<StateSpec>("state", {});
      Memory& memory = Engine::instance().memory(device_of(options));
      hold(std::make_shared<Adapter>(std::move(spec), memory));
    });
  }

  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "NativeAdapter",
                       {InstanceMethod<&AdapterHandle::fill>("fill"),
                        InstanceMethod<&AdapterHandle::read>("read"),
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
                        InstanceMethod<&AdapterHandle::scale_gradients>("scaleGradients"),
                        InstanceMethod<&AdapterHandle::gradient_squares>("gradientSquares"),
                        InstanceMethod<&AdapterHandle::digest>("digest"),
                        InstanceMethod<&AdapterHandle::begin_round>("beginRound"),
                        InstanceMethod<&AdapterHandle::begin_client>("beginClient"),
                        InstanceMethod<&AdapterHandle::add_client>("addClient"),
                        InstanceMethod<&AdapterHandle::sum_contributions>("sumContributions"),
                        InstanceMethod<&AdapterHandle::release>("release"),
                        InstanceMethod<&AdapterHandle::step>("optimizerStep"),
                        dispose_method()});
  }

 private:
  /// The named array of a parameter.
  struct Array {
    std::shared_ptr<Adapter> owner;
    int parameter;
    AdapterArray which;
    int64_t count;
    std::string name;

    HostView<const float> view() const { return owner->view(parameter, which); }
    HostView<float> edit() const { return owner->edit(parameter, which); }
  };

  /// Throws where there is none, and while a job uses it.
  Array array(const Napi::CallbackInfo& info, AdapterArray which, Touch touch) const {
    const std::string name = info[0].ToString();
    const auto owner = payload(info.Env());
    const Adapter& adapter = *owner;
    adapter.expect_idle(which, touch);
    const int index = adapter.parameter(name);
    const ParameterSpec& p = adapter.spec().parameters[index];
    if (!adapter.at(index, which))
      fail("CONFIG", "adapter parameter '", name, "' has no ", name_of(which),
           adapter.spec().trains(index) ? "" : ": it is not trained");
    if (which == AdapterArray::value && touch == Touch::write) owner->values_changed();
    return {owner, index, which, p.rows * p.cols, name};
  }

  static AdapterArray which(Napi::Value value) { return Given(value, "array").as<AdapterArray>(); }

  Napi::Value fill(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const Fields fields(info[1], "fill");
      static constexpr const char* kKinds[] = {"zeros", "constant", "uniform", "normal"};
      static constexpr const char* kParameters[] = {nullptr, "value", "bound", "std"};
      const int kind = fields["kind"].choice(kKinds);
      const float number = kind > 0 ? fields.get<float>(kParameters[kind]) : 0;
      const uint64_t seed = kind > 1 ? fields.get<uint64_t>("seed") : 0;
      const Array a = array(info, AdapterArray::value, Touch::write);
      const HostView<float> values = a.edit();
      if (kind < 2) std::fill(values.begin(), values.end(), number);
      if (kind == 2) fill_uniform(values.data(), a.count, number, seed, a.name);
      if (kind == 3) fill_normal(values.data(), a.count, number, seed, a.name);
      return info.Env().Undefined();
    });
  }

  /// Destination of `count` elements: the third argument, from the offset in the fourth, or a new array.
  template <class Out>
  static std::pair<Out, int64_t> stretch(const Napi::CallbackInfo& info, napi_typedarray_type type, int64_t count) {
    if (info[2].IsUndefined()) return {Out::New(info.Env(), static_cast<size_t>(count)), 0};
    if (!info[2].IsTypedArray() || info[2].As<Napi::TypedArray>().TypedArrayType() != type)
      throw Napi::TypeError::New(info.Env(), "lowrank: out must be an array of the element type");
    const Out out = info[2].As<Out>();
    const auto length = static_cast<int64_t>(out.ElementLength());
    const int64_t begin = info[3].IsUndefined() ? 0 : info[3].ToNumber().Int64Value();
    if (begin < 0 || begin > count - length)
      fail("SHAPE", "elements ", begin, " to ", begin + length, " are out of range; the array has ", count);
    return {out, begin};
  }

  Napi::Value read(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const Array a = array(info, which(info[1]), Touch::read);
      auto [out, begin] = stretch<Napi::Float32Array>(info, napi_float32_array, a.count);
      std::copy_n(a.view().data() + begin, out.ElementLength(), out.Data());
      return out;
    });
  }

  Napi::Value write(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const Array a = array(info, which(info[1]), Touch::write);
      const Napi::Float32Array values = Given(info[2], "values").floats();
      if (static_cast<int64_t>(values.ElementLength()) != a.count)
        fail("SHAPE", "adapter parameter '", a.name, "' has ", a.count, " elements, not ", values.ElementLength());
      std::copy_n(values.Data(), a.count, a.edit().data());
      return info.Env().Undefined();
    });
  }

  Napi::Value copy_weight(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&] {
      const auto adapter = payload(env);
      const int parameter = adapter->parameter(info[0].ToString());
      const auto model = model_of(info[1]);
      const std::string weight = info[2].ToString();
      const auto use = std::make_shared<AdapterUse>(adapter, AdapterUse::Kind::update);
      return environment(env).channel->start<bool>(
          env,
          over(model,
               [adapter, parameter, model, weight](Context& context, const CancelFlag&) {
                 copy_weight_into(context, *model, weight, *adapter, parameter);
                 return true;
               }),
          [](Napi::Env e, bool&) -> Napi::Value { return e.Undefined(); }, use, &adapter->memory());
    });
  }

  Napi::Value fill_row_norms(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&] {
      const auto adapter = payload(env);
      const int parameter = adapter->parameter(info[0].ToString());
      const auto model = model_of(info[1]);
      const auto use = std::make_shared<AdapterUse>(adapter, AdapterUse::Kind::update);
      return environment(env).channel->start<bool>(
          env,
          over(model,
               [adapter, parameter, model](Context& context, const CancelFlag&) {
                 lowrank::fill_row_norms(context, *model, *adapter, parameter);
                 return true;
               }),
          [](Napi::Env e, bool&) -> Napi::Value { return e.Undefined(); }, use, &adapter->memory());
    });
  }

  Napi::Value arrays(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const auto adapter = payload(info.Env());
      const int index = adapter->parameter(info[0].ToString());
      Napi::Array names = Napi::Array::New(info.Env());
      for (size_t i = 0; i < std::size(kAdapterArrayNames); ++i)
        if (adapter->at(index, static_cast<AdapterArray>(i))) names.Set(names.Length(), kAdapterArrayNames[i]);
      return names;
    });
  }

  /// A tensor of a parameter's state, and what keeps it alive.
  struct HeldState {
    std::shared_ptr<Adapter> owner;
    int parameter;
    StateTensor tensor;
  };

  /// State of a parameter; empty for one that is not trained. Throws while a job uses the adapter.
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
      const Napi::Uint8Array bytes = Given(info[2], "bytes").bytes();
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
      // On this thread, on which plans look at it.
      if (const Given state(info[0], "state"); !state.is_absent()) adapter->set_state(state.as<StateSpec>());
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
        to_value<std::vector<double>>, use, &adapter->memory());
  }

  Napi::Value prune(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto adapter = payload(env);
    const auto keep = Given(info[0], "keep").as<std::vector<uint8_t>>();
    const auto use = std::make_shared<AdapterUse>(adapter, AdapterUse::Kind::update);
    return environment(env).channel->start<bool>(
        env,
        [adapter, keep](Context&, const CancelFlag&) {
          prune_triplets(*adapter, keep);
          return true;
        },
        [](Napi::Env e, bool&) -> Napi::Value { return e.Undefined(); }, use, &adapter->memory());
  }

  Napi::Value zero_gradients(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      payload(info.Env())->expect_idle(AdapterArray::gradient, Touch::write);
      return change<bool>(
          info.Env(), [](Context&, Adapter& adapter) { return adapter.zero_gradients(), true; }, nothing);
    });
  }

  Napi::Value scale_gradients(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      payload(info.Env())->expect_idle(AdapterArray::gradient, Touch::write);
      const double factor = info[0].ToNumber().DoubleValue();
      return change<bool>(
          info.Env(),
          [factor](Context&, Adapter& adapter) {
            const HostView<float> gradients(adapter.memory(), adapter.span(AdapterArray::gradient),
                                            adapter.spec().trained_elements, "gradients");
            for (float& value : gradients) value = static_cast<float>(value * factor);
            return true;
          },
          nothing);
    });
  }

  Napi::Value gradient_squares(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      payload(info.Env())->expect_idle(AdapterArray::gradient, Touch::read);
      return change<std::vector<double>>(
          info.Env(),
          [](Context& context, Adapter& adapter) { return lowrank::gradient_squares(context.device, adapter); },
          to_value<std::vector<double>>);
    });
  }

  Napi::Value digest(const Napi::CallbackInfo& info) {
    const auto adapter = payload(info.Env());
    const auto use = std::make_shared<AdapterUse>(adapter, AdapterUse::Kind::infer);
    return environment(info.Env())
        .channel->start<uint64_t>(
            info.Env(), [adapter](Context& context, const CancelFlag&) { return digest_of(context.pool, *adapter); },
            [](Napi::Env env, uint64_t& hash) -> Napi::Value { return Napi::String::New(env, std::to_string(hash)); },
            use, &adapter->memory());
  }

  /// A job that changes the adapter.
  template <class Result, class Work, class Convert>
  Napi::Value change(Napi::Env env, Work work, Convert convert) {
    const auto adapter = payload(env);
    const auto use = std::make_shared<AdapterUse>(adapter, AdapterUse::Kind::update);
    return environment(env).channel->start<Result>(
        env, [adapter, work](Context& context, const CancelFlag&) { return work(context, *adapter); }, convert, use,
        &adapter->memory());
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
      const Given given(info[0], "client");
      const auto ranks = given.as<TrainedRanks>();
      const auto bound = Fields(given).get<double>("clippingNorm");
      return change<double>(
          info.Env(),
          [ranks, bound](Context& context, Adapter& adapter) {
            return lowrank::add_client(context, adapter, ranks, bound);
          },
          [](Napi::Env env, double& norm) -> Napi::Value { return Napi::Number::New(env, norm); });
    });
  }

  /// Adds up the sums of the ranks, in their order. The first rank alone keeps the result, and the others begin an
  /// empty sum, unless it is the last time in a round. So contributions that are dealt out one to each rank between two
  /// calls are added up one after the other, with the same bits on any number of ranks.
  Napi::Value sum_contributions(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const bool is_last = info[0].ToBoolean();
      return change<bool>(
          info.Env(),
          [is_last](Context&, Adapter& adapter) {
            expect_private(adapter);
            Comm& comm = Engine::instance().comm();
            const int64_t elements = adapter.spec().trained_elements;
            sum_over_ranks(comm, adapter.private_sum(), elements);
            if (!is_last && comm.rank() > 0) std::fill_n(adapter.private_sum(), elements, 0.0);
            return true;
          },
          nothing);
    });
  }

  Napi::Value release(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const Given given(info[0], "release");
      const auto release = given.as<Release>();
      ReleaseNoise noise{{}, release.round, release.deviation};
      if (release.key.size() != noise.key.size()) Fields(given).wrong("key", "a Uint8Array of 32 bytes");
      std::copy(release.key.begin(), release.key.end(), noise.key.begin());
      return change<bool>(
          info.Env(),
          [release, noise](Context& context, Adapter& adapter) {
            return lowrank::release(context, adapter, release, noise, release.cohort), true;
          },
          nothing);
    });
  }

  Napi::Value step(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&] {
      const auto adapter = payload(env);
      const auto options = Given(info[0], "optimizer").as<OptimizerStep>();
      const auto use = std::make_shared<AdapterUse>(adapter, AdapterUse::Kind::update);
      return environment(env).channel->start<double>(
          env,
          [adapter, options](Context& context, const CancelFlag&) {
            return optimizer_step(context.device, *adapter, options);
          },
          [](Napi::Env e, double& norm) -> Napi::Value {
            Napi::Object result = Napi::Object::New(e);
            result.Set("gradNorm", norm);
            return result;
          },
          use, &adapter->memory());
    });
  }
};

}  // namespace

Napi::Function define_adapter(Napi::Env env) { return AdapterHandle::define(env); }

std::shared_ptr<Adapter> adapter_of(Napi::Value handle) { return AdapterHandle::unwrap(handle).payload(handle.Env()); }

}  // namespace lowrank::addon
