// Grammars: handles without a class, which the garbage collector frees.
#include "grammar/grammar.h"

#include "addon/handle.h"
#include "addon/values.h"

namespace lowrank::addon {
namespace {

constexpr napi_type_tag kVocabulary{0x6c6f7772616e6b00, 5}, kGrammar{0x6c6f7772616e6b00, 6},
    kMatcher{0x6c6f7772616e6b00, 7};

template <class Kind>
Napi::Value wrapped(Napi::Env env, std::shared_ptr<Kind> held, const napi_type_tag& tag) {
  using Held = std::shared_ptr<Kind>;
  auto external =
      Napi::External<Held>::New(env, new Held(std::move(held)), [](Napi::BasicEnv, Held* owned) { delete owned; });
  external.TypeTag(&tag);
  return external;
}

template <class Kind>
std::shared_ptr<Kind> unwrapped(Napi::Value value, const napi_type_tag& tag, const char* name) {
  if (!value.IsExternal() || !value.As<Napi::External<std::shared_ptr<Kind>>>().CheckTypeTag(&tag))
    throw Napi::TypeError::New(value.Env(), std::string("lowrank: expected ") + name);
  return *value.As<Napi::External<std::shared_ptr<Kind>>>().Data();
}

std::shared_ptr<Matcher> matcher_of(Napi::Value value) {
  return unwrapped<Matcher>(value, kMatcher, "a matcher of a grammar");
}

Napi::Value create_vocabulary(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    auto [bytes, ends, special] = Given(info[0], "tokens").as<TokenTable>();
    return wrapped(info.Env(), std::make_shared<const Vocabulary>(std::move(bytes), std::move(ends), special),
                   kVocabulary);
  });
}

Napi::Value create_grammar(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    auto vocabulary = unwrapped<const Vocabulary>(info[0], kVocabulary, "a vocabulary");
    auto tables = Given(info[1], "tables").as<GrammarTables>();
    return wrapped(info.Env(), std::make_shared<Grammar>(std::move(tables), std::move(vocabulary)), kGrammar);
  });
}

Napi::Value create_matcher(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const auto ends = Given(info[1], "ends").as<std::vector<int32_t>>();
    return wrapped(info.Env(), std::make_shared<Matcher>(unwrapped<Grammar>(info[0], kGrammar, "a grammar"), ends),
                   kMatcher);
  });
}

Napi::Value allowed_tokens(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const auto matcher = matcher_of(info[0]);
    const int64_t vocab = info[1].ToNumber().Int64Value();
    const std::vector<uint64_t>& bits = matcher->allowed(vocab);
    std::vector<int32_t> ids;
    for (int64_t id = 0; id < vocab; ++id)
      if ((bits[id / 64] >> (id % 64) & 1) != 0) ids.push_back(static_cast<int32_t>(id));
    return to_value(info.Env(), ids);
  });
}

Napi::Value accept_token(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    matcher_of(info[0])->accept(info[1].ToNumber().Int32Value());
    return info.Env().Undefined();
  });
}

}  // namespace

std::shared_ptr<TokenRules> Given::rules() const { return matcher_of(value_); }

void define_grammars(Napi::Env env, Napi::Object exports) {
  const auto method = [&](const char* name, Napi::Value (*call)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, call, name));
  };
  method("createVocabulary", create_vocabulary);
  method("createGrammar", create_grammar);
  method("createMatcher", create_matcher);
  method("allowedTokens", allowed_tokens);
  method("acceptToken", accept_token);
}

}  // namespace lowrank::addon
