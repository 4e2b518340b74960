// Texts that a session goes back in, with a model whose state is not a cache of keys and values alone.
#include "backends/cpu/device.h"
#include "runtime/ways.h"

using namespace lowrank;
using namespace lowrank::test;

namespace {

constexpr int64_t kText = 1200;

std::vector<int32_t> tokens(int64_t begin, int64_t end, int32_t first) {
  std::vector<int32_t> made;
  for (int64_t i = begin; i < end; ++i) made.push_back(static_cast<int32_t>((7 * i + first) % kVocab));
  return made;
}

/// The logits of the last token.
std::vector<float> last_logits(Session& session, Context& context, const std::vector<int32_t>& text, int64_t past) {
  const HostView<const float> logits =
      session.forward(context, "generate", {{text, past}, {}, {static_cast<int32_t>(text.size()) - 1}}, {});
  return {logits.begin(), logits.end()};
}

}  // namespace

TEST("a text with delta rules can be continued at its end and after each block of 512 tokens, and nowhere else") {
  Pool pool(2);
  cpu::CpuDevice cpu(pool, cpu::kernels(cpu::default_level()), cpu::CpuSizes(pool.threads()));
  Context context{pool, cpu};
  PlanOptions generate;
  generate.mode = Mode::forward;
  generate.tokens = generate.kv_capacity = kText;
  generate.sequences = generate.head_rows = 1;
  const auto model = model_of(pool, StorageFormat::f32, 2, kVocab, false, false, false, true);
  const auto session = [&] { return Session(context, model, {}, {{"generate", generate}}); };
  Session used = session();
  last_logits(used, context, tokens(0, 1150, 1), 0);
  for (const int64_t shared : {1024, 512}) {
    std::vector<int32_t> text = tokens(0, shared, 1);
    const std::vector<int32_t> rest = tokens(shared, shared + 70, 5);
    text.insert(text.end(), rest.begin(), rest.end());
    Session fresh = session();
    CHECK(last_logits(used, context, rest, shared) == last_logits(fresh, context, text, 0));
    const std::vector<int32_t> more = tokens(0, 3, 9);
    CHECK(last_logits(used, context, more, shared + 70) == last_logits(fresh, context, more, shared + 70));
  }
  const std::vector<int32_t> one = tokens(0, 1, 1);
  CHECK_THROWS(last_logits(used, context, one, 64),
               "only where the last call ended or after a multiple of 512, where gated_delta_rule kept its state");
}
