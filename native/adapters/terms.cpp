#include "adapters/terms.h"

#include "adapters/embedding_term.h"
#include "adapters/kronecker_term.h"
#include "adapters/low_rank.h"
#include "adapters/pair.h"
#include "adapters/rotation.h"
#include "core/error.h"

namespace lowrank {
namespace {

template <class Room>
std::unique_ptr<Term> made(const AdapterSpec& spec, int index, const Site& site) {
  return std::make_unique<Room>(spec, index, site);
}

constexpr TermKind kKinds[] = {
    {"low_rank", Op::linear, made<LowRank>},           {"pair", Op::linear, made<PairTerm>},
    {"kronecker", Op::linear, made<KroneckerTerm>},    {"rotation", Op::linear, made<RotationTerm>},
    {"embedding", Op::embedding, made<EmbeddingTerm>},
};

}  // namespace

const TermKind& term_kind(const TermSpec& spec) {
  std::string known;
  for (const TermKind& kind : kKinds) {
    if (spec.kind == kind.name) return kind;
    known += (known.empty() ? "" : ", ") + std::string(kind.name);
  }
  fail("CONFIG", "adapter at ", spec.target, ": unknown kind of term '", spec.kind, "'; expected one of ", known);
}

}  // namespace lowrank
