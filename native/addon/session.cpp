// The handle of a session: plans that are executed.
#include <algorithm>

#include "addon/convert.h"
#include "addon/handle.h"
#include "core/error.h"

namespace lowrank::addon {
namespace {

Napi::Value from_loss(Napi::Env env, LossResult& loss) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("lossSum", loss.loss_sum);
  result.Set("count", number(env, loss.count));
  if (!loss.norms.empty()) result.Set("norms", from_doubles(env, loss.norms));
  if (loss.grad_norm) result.Set("gradNorm", *loss.grad_norm);
  if (loss.hits) result.Set("hits", number(env, *loss.hits));
  const auto set = [&](const char* name, const std::vector<float>& numbers) {
    if (numbers.empty()) return;
    Napi::Float32Array values = Napi::Float32Array::New(env, numbers.size());
    std::copy(numbers.begin(), numbers.end(), values.Data());
    result.Set(name, values);
  };
  set("logProbs", loss.log_probs);
  set("logits", loss.logits);
  return result;
}

/// Use of the adapters by a job over the session, until its promise settles.
std::shared_ptr<std::vector<AdapterUse>> use_adapters(const Session& session, AdapterUse::Kind kind) {
  auto uses = std::make_shared<std::vector<AdapterUse>>();
  for (const auto& adapter : session.adapters()) uses->emplace_back(adapter, kind);
  return uses;
}

/// How the next token of a text is drawn, and what is told about it.
struct Draw {
  std::optional<Sampling> sampling;
  bool wants_log_prob;
  std::optional<int64_t> top;  // number of likeliest tokens to name

  explicit Draw(const Fields& fields)
      : sampling(to_sampling(fields)), wants_log_prob(fields.get<bool>("wantLogProb", false)) {
    if (fields.has("topLogProbs")) top = fields.get<int64_t>("topLogProbs");
  }
};

struct Drawn {
  std::optional<int32_t> token;
  std::optional<double> log_prob;
  std::optional<OwnLogProbs> own;
  std::vector<float> logits;

  void draw(const float* row, int64_t vocab, const Draw& how) {
    token = sample_token(row, vocab, *how.sampling);
    if (how.wants_log_prob) log_prob = log_probability(row, vocab, *token, how.sampling->temperature);
    if (how.top) own = own_log_probs(row, vocab, *token, *how.top);
  }

  Napi::Object result(Napi::Env env) {
    Napi::Object result = Napi::Object::New(env);
    if (token) result.Set("token", *token);
    if (log_prob) result.Set("logProb", *log_prob);
    if (!own) return result;
    Napi::Object named = Napi::Object::New(env);
    named.Set("logProb", own->log_prob);
    Napi::Int32Array ids = Napi::Int32Array::New(env, own->top.size());
    std::copy(own->top.begin(), own->top.end(), ids.Data());
    named.Set("top", ids);
    named.Set("topLogProbs", from_doubles(env, own->top_log_probs));
    result.Set("own", named);
    return result;
  }
};

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
    auto input = std::make_shared<TrainInput>(to_train_input(info[1]));
    const auto uses = use_adapters(*session, input->update ? AdapterUse::Kind::update : AdapterUse::Kind::train);
    return environment(env).channel->start<LossResult>(
        env,
        [session, plan, input](Context& context, const CancelFlag& cancel) {
          return session->train_step(context, plan, *input, cancel);
        },
        from_loss, uses, &session->memory());
  }

  Napi::Value forward_step(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto session = payload(env);
    const std::string plan = info[0].ToString();
    auto input = std::make_shared<TrainInput>(to_train_input(info[1]));
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
    auto input = std::make_shared<TrainInput>(to_train_input(info[1]));
    const auto uses = use_adapters(*session, AdapterUse::Kind::infer);
    return environment(env).channel->start<LossResult>(
        env,
        [session, plan, input](Context& context, const CancelFlag& cancel) {
          return session->score_step(context, plan, *input, cancel);
        },
        from_loss, uses, &session->memory());
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
          return session->finish_step(context, *weights, cancel);
        },
        from_loss, uses, &session->memory());
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
    const Fields fields(info[1], "input");
    auto batch = std::make_shared<MicroBatch>(to_micro_batch(fields));
    const float temperature = to_temperature(fields);
    const Wanted wanted{fields.get<bool>("wantLogProbs", false), fields.get<bool>("wantLogits", false)};
    const auto uses = use_adapters(*session, AdapterUse::Kind::infer);
    return environment(env).channel->start<LossResult>(
        env,
        [session, plan, batch, temperature, wanted](Context& context, const CancelFlag& cancel) {
          return session->evaluate(context, plan, *batch, cancel, temperature, wanted);
        },
        from_loss, uses, &session->memory());
  }

  Napi::Value output_norms(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto session = payload(env);
    const auto uses = use_adapters(*session, AdapterUse::Kind::infer);
    return environment(env).channel->start<std::vector<double>>(
        env, [session](Context&, const CancelFlag&) { return session->output_norms(); }, from_doubles, uses,
        &session->memory());
  }

  Napi::Value forward(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto session = payload(env);
    const std::string plan = info[0].ToString();
    const Fields fields(info[1], "input");
    auto input = std::make_shared<ForwardInput>(to_forward_input(fields));
    const bool want_logits = fields.get<bool>("wantLogits", false);
    const Draw draw(fields);
    if (draw.sampling && input->rows.empty())
      throw to_js(env, "SHAPE", "a token is drawn from the last row, and no row is wanted");
    const auto uses = use_adapters(*session, AdapterUse::Kind::infer);
    return environment(env).channel->start<Drawn>(
        env,
        [session, plan, input, want_logits, draw](Context& context, const CancelFlag& cancel) {
          const HostView<const float> logits = session->forward(context, plan, *input, cancel);
          const int64_t vocab = session->graph().labels, rows = static_cast<int64_t>(input->rows.size());
          Drawn drawn;
          if (draw.sampling) drawn.draw(logits.data() + (rows - 1) * vocab, vocab, draw);
          if (want_logits) drawn.logits.assign(logits.begin(), logits.begin() + rows * vocab);
          return drawn;
        },
        [want_logits](Napi::Env e, Drawn& drawn) -> Napi::Value {
          Napi::Object result = drawn.result(e);
          if (want_logits) {
            Napi::Float32Array logits = Napi::Float32Array::New(e, drawn.logits.size());
            std::copy(drawn.logits.begin(), drawn.logits.end(), logits.Data());
            result.Set("logits", logits);
          }
          return result;
        },
        uses, &session->memory());
  }

  Napi::Value decode(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto session = payload(env);
    const std::string plan = info[0].ToString();
    auto texts = std::make_shared<std::vector<TextInput>>();
    std::vector<Draw> draws;
    if (!info[1].IsArray()) throw Napi::TypeError::New(env, "lowrank: texts must be an array");
    const Napi::Array given = info[1].As<Napi::Array>();
    for (uint32_t i = 0; i < given.Length(); ++i) {
      const Fields fields(given.Get(i), "text");
      Draw draw(fields);
      texts->push_back({fields.get<std::vector<int32_t>>("tokens"), fields.get<int64_t>("past"),
                        fields.get<int64_t>("reach", 0), fields.get<int64_t>("begin"),
                        fields.get<std::vector<int32_t>>("adapters"), draw.sampling.has_value()});
      if (draw.sampling) draws.push_back(std::move(draw));
    }
    const auto uses = use_adapters(*session, AdapterUse::Kind::infer);
    return environment(env).channel->start<std::vector<Drawn>>(
        env,
        [session, plan, texts, draws](Context& context, const CancelFlag& cancel) {
          const HostView<const float> logits = session->decode(context, plan, *texts, cancel);
          const int64_t vocab = session->graph().labels;
          std::vector<Drawn> drawn(draws.size());
          for (size_t i = 0; i < draws.size(); ++i)
            drawn[i].draw(logits.data() + static_cast<int64_t>(i) * vocab, vocab, draws[i]);
          return drawn;
        },
        [](Napi::Env e, std::vector<Drawn>& drawn) -> Napi::Value {
          Napi::Array results = Napi::Array::New(e, drawn.size());
          for (uint32_t i = 0; i < drawn.size(); ++i) results.Set(i, drawn[i].result(e));
          return results;
        },
        uses, &session->memory());
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
    if (!info[1].IsArray()) throw Napi::TypeError::New(env, "lowrank: adapters must be an array");
    const Napi::Array list = info[1].As<Napi::Array>();
    Memory& memory = Engine::instance().memory(model->device);
    for (uint32_t i = 0; i < list.Length(); ++i) {
      adapters.push_back(adapter_of(list.Get(i)));
      if (&adapters.back()->memory() != &memory)
        fail("CONFIG", "an adapter lies on another device than its model, which is on ", model->device);
    }
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
        },
        nullptr, &memory);
  });
}

}  // namespace lowrank::addon
