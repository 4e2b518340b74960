// The handle of a session: plans that are executed.
#include <algorithm>

#include "addon/convert.h"
#include "addon/handle.h"
#include "addon/values.h"
#include "core/error.h"
#include "runtime/sampling.h"

namespace lowrank::addon {
namespace {

/// The input of a pass over a micro-batch.
template <class Input>
std::shared_ptr<Input> to_input(Napi::Value value) {
  const Given given(value, "input");
  auto input = std::make_shared<Input>(given.as<Input>());
  if (!(input->temperature > 0)) Fields(given).wrong("temperature", "a positive number");
  return input;
}

/// New tokens of a text, and how the next one is drawn.
template <class Text>
Text to_text(const Given& given) {
  Text text = given.as<Text>();
  if (!text.sampling) return text;
  const auto& [ids, values] = text.sampling->logit_bias;
  if (ids.size() != values.size())
    Fields{Fields{Fields{given}["sampling"]}["logitBias"]}.wrong("values", "as long as its ids");
  return text;
}

/// Use of the adapters by a job over the session, until its promise settles.
std::shared_ptr<std::vector<AdapterUse>> use_adapters(const Session& session, AdapterUse::Kind kind) {
  auto uses = std::make_shared<std::vector<AdapterUse>>();
  for (const auto& adapter : session.adapters()) uses->emplace_back(adapter, kind);
  return uses;
}

/// Draws the token after a text by its logits [vocab], which moves its rules on.
ForwardResult drawn(const float* row, int64_t vocab, const Drawing& how) {
  ForwardResult result;
  result.token = sample_token(row, vocab, *how.sampling);
  if (how.want_log_prob) result.log_prob = log_probability(row, vocab, *result.token, how.sampling->temperature);
  if (how.top_log_probs) result.own = own_log_probs(row, vocab, *result.token, *how.top_log_probs);
  return result;
}

class SessionHandle : public Handle<SessionHandle, Session> {
 public:
  static constexpr napi_type_tag kTag{0x6c6f7772616e6b00, 3};
  static constexpr const char* kName = "a session";

  /// @param info what `open` made: an external that points to a shared pointer
  explicit SessionHandle(const Napi::CallbackInfo& info) : Handle(info) {
    if (!info[0].IsExternal()) throw Napi::TypeError::New(info.Env(), "lowrank: use createSession to open a session");
    hold(*info[0].As<Napi::External<std::shared_ptr<Session>>>().Data());
  }

  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "NativeSession",
        {InstanceMethod<&SessionHandle::report>("report"), InstanceMethod<&SessionHandle::total>("total"),
         InstanceMethod<&SessionHandle::train_step>("trainStep"), InstanceMethod<&SessionHandle::evaluate>("evaluate"),
         InstanceMethod<&SessionHandle::forward_step>("forwardStep"),
         InstanceMethod<&SessionHandle::skip_passes>("skipPasses"),
         InstanceMethod<&SessionHandle::score_step>("scoreStep"),
         InstanceMethod<&SessionHandle::finish_step>("finishStep"),
         InstanceMethod<&SessionHandle::sum_gradients>("sumGradients"),
         InstanceMethod<&SessionHandle::output_norms>("outputNorms"),
         InstanceMethod<&SessionHandle::forward>("forward"), InstanceMethod<&SessionHandle::decode>("decode"),
         InstanceMethod<&SessionHandle::copy_cache>("copyCache"), dispose_method()});
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
    auto input = to_input<TrainInput>(info[1]);
    const auto uses = use_adapters(*session, input->update ? AdapterUse::Kind::update : AdapterUse::Kind::train);
    return environment(env).channel->start<LossResult>(
        env,
        [session, plan, input](Context& context, const CancelFlag& cancel) {
          return session->train_step(context, plan, *input, cancel, &Engine::instance().sums());
        },
        to_value<LossResult>, uses, &session->memory());
  }

  Napi::Value forward_step(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto session = payload(env);
    const std::string plan = info[0].ToString();
    auto input = to_input<TrainInput>(info[1]);
    const auto uses = use_adapters(*session, AdapterUse::Kind::infer);
    return environment(env).channel->start<bool>(
        env,
        [session, plan, input](Context& context, const CancelFlag& cancel) {
          session->forward_step(context, plan, *input, cancel);
          return true;
        },
        [](Napi::Env e, bool&) -> Napi::Value { return e.Undefined(); }, uses, &session->memory());
  }

  Napi::Value skip_passes(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto session = payload(env);
    const int64_t forwards = info[0].ToNumber().Int64Value(), backwards = info[1].ToNumber().Int64Value();
    return environment(env).channel->start<bool>(
        env,
        [session, forwards, backwards](Context&, const CancelFlag&) {
          session->skip_passes(forwards, backwards);
          return true;
        },
        [](Napi::Env e, bool&) -> Napi::Value { return e.Undefined(); }, nullptr, &session->memory());
  }

  Napi::Value score_step(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto session = payload(env);
    const std::string plan = info[0].ToString();
    auto input = to_input<TrainInput>(info[1]);
    const auto uses = use_adapters(*session, AdapterUse::Kind::infer);
    return environment(env).channel->start<LossResult>(
        env,
        [session, plan, input](Context& context, const CancelFlag& cancel) {
          return session->score_step(context, plan, *input, cancel, &Engine::instance().sums());
        },
        to_value<LossResult>, uses, &session->memory());
  }

  Napi::Value finish_step(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto session = payload(env);
    auto weights = std::make_shared<std::vector<float>>(Fields(info[0], "input").get<std::vector<float>>("weights"));
    const bool updates = session->adapters().at(0)->spec().state.in_backward;
    const auto uses = use_adapters(*session, updates ? AdapterUse::Kind::update : AdapterUse::Kind::train);
    return environment(env).channel->start<LossResult>(
        env,
        [session, weights](Context& context, const CancelFlag& cancel) {
          return session->finish_step(context, *weights, cancel, &Engine::instance().sums());
        },
        to_value<LossResult>, uses, &session->memory());
  }

  Napi::Value sum_gradients(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto session = payload(env);
    const std::string plan = info[0].ToString();
    const auto uses = use_adapters(*session, AdapterUse::Kind::train);
    return environment(env).channel->start<bool>(
        env,
        [session, plan](Context& context, const CancelFlag&) {
          Engine& engine = Engine::instance();
          session->sum_gradients(context, plan, engine.sums(), engine.link());
          return true;
        },
        [](Napi::Env e, bool&) -> Napi::Value { return e.Undefined(); }, uses, &session->memory());
  }

  Napi::Value evaluate(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto session = payload(env);
    const std::string plan = info[0].ToString();
    auto input = to_input<EvaluateInput>(info[1]);
    const auto uses = use_adapters(*session, AdapterUse::Kind::infer);
    return environment(env).channel->start<LossResult>(
        env,
        [session, plan, input](Context& context, const CancelFlag& cancel) {
          return session->evaluate(context, plan, *input, cancel, input->temperature,
                                   {input->want_log_probs, input->want_logits});
        },
        to_value<LossResult>, uses, &session->memory());
  }

  Napi::Value output_norms(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto session = payload(env);
    const auto uses = use_adapters(*session, AdapterUse::Kind::infer);
    return environment(env).channel->start<std::vector<double>>(
        env, [session](Context&, const CancelFlag&) { return session->output_norms(); }, to_value<std::vector<double>>,
        uses, &session->memory());
  }

  Napi::Value forward(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto session = payload(env);
    const std::string plan = info[0].ToString();
    auto input = std::make_shared<ForwardInput>(to_text<ForwardInput>(Given(info[1], "input")));
    if (input->sampling && input->rows.empty())
      throw to_js(env, "SHAPE", "a token is drawn from the last row, and no row is wanted");
    const auto uses = use_adapters(*session, AdapterUse::Kind::infer);
    return environment(env).channel->start<ForwardResult>(
        env,
        [session, plan, input](Context& context, const CancelFlag& cancel) {
          const HostView<const float> logits = session->forward(context, plan, *input, cancel);
          const int64_t vocab = session->graph().labels, rows = static_cast<int64_t>(input->rows.size());
          ForwardResult result;
          if (input->sampling) result = drawn(logits.data() + (rows - 1) * vocab, vocab, *input);
          if (input->want_logits) result.logits.emplace(logits.begin(), logits.begin() + rows * vocab);
          return result;
        },
        to_value<ForwardResult>, uses, &session->memory());
  }

  Napi::Value decode(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto session = payload(env);
    const std::string plan = info[0].ToString();
    auto texts = std::make_shared<std::vector<TextInput>>();
    for (const Given& text : Given(info[1], "texts").list()) texts->push_back(to_text<TextInput>(text));
    const auto uses = use_adapters(*session, AdapterUse::Kind::infer);
    return environment(env).channel->start<std::vector<ForwardResult>>(
        env,
        [session, plan, texts](Context& context, const CancelFlag& cancel) {
          const HostView<const float> logits = session->decode(context, plan, *texts, cancel);
          const int64_t vocab = session->graph().labels;
          const float* row = logits.data();
          std::vector<ForwardResult> results;
          for (const TextInput& text : *texts) {
            if (!text.sampling) continue;
            results.push_back(drawn(row, vocab, text));
            row += vocab;
          }
          return results;
        },
        to_value<std::vector<ForwardResult>>, uses, &session->memory());
  }

  Napi::Value copy_cache(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto session = payload(env);
    const std::string plan = info[0].ToString();
    const int64_t from = info[1].ToNumber().Int64Value(), to = info[2].ToNumber().Int64Value();
    const int64_t tokens = info[3].ToNumber().Int64Value();
    return environment(env).channel->start<bool>(
        env,
        [session, plan, from, to, tokens](Context& context, const CancelFlag&) {
          session->copy_cache(context, plan, from, to, tokens);
          return true;
        },
        [](Napi::Env e, bool&) -> Napi::Value { return e.Undefined(); }, nullptr, &session->memory());
  }
};

}  // namespace

Napi::Function define_session(Napi::Env env) { return SessionHandle::define(env); }

std::shared_ptr<Session> session_of(Napi::Value handle) { return SessionHandle::unwrap(handle).payload(handle.Env()); }

Napi::Value open_session(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const auto model = model_of(info[0]);
    // Weights are placed on this thread, all of them before a session may look at them on another.
    model->expect_loaded();
    std::vector<std::shared_ptr<Adapter>> adapters;
    Memory& memory = Engine::instance().memory(model->device);
    for (const Given& adapter : Given(info[1], "adapters").list()) {
      adapters.push_back(adapter_of(adapter.value()));
      if (&adapters.back()->memory() != &memory)
        fail("CONFIG", "an adapter lies on another device than its model, which is on ", model->device);
    }
    std::vector<float> weights;
    if (const Given given(info[3], "weights"); !given.is_absent())
      for (const Given& weight : given.list()) weights.push_back(weight.as<float>());
    std::vector<int64_t> ranks;
    if (const Given given(info[4], "ranks"); !given.is_absent()) ranks = given.as<std::vector<int64_t>>();
    return environment(env).channel->start<std::shared_ptr<Session>>(
        env,
        [model, adapters, plans = to_plans(info[2]), weights, ranks](Context& context, const CancelFlag&) {
          return std::make_shared<Session>(context, model, adapters, plans, weights, ranks);
        },
        [](Napi::Env e, std::shared_ptr<Session>& session) -> Napi::Value {
          return environment(e).session.New({Napi::External<std::shared_ptr<Session>>::New(e, &session)});
        },
        nullptr, &memory);
  });
}

}  // namespace lowrank::addon
