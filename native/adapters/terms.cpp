#include "adapters/terms.h"

#include "adapters/list.h"
#include "core/error.h"

namespace lowrank {
namespace {

template <class T>
std::unique_ptr<Term> made(const AdapterSpec& spec, int index, const Site& site) {
  return std::make_unique<T>(spec, index, site);
}

#define LOWRANK_TERM(T) {T::kKind, T::kAt, made<T>},
constexpr TermKind kKinds[] = {LOWRANK_TERMS(LOWRANK_TERM)};
#undef LOWRANK_TERM

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
