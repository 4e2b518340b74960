// The kinds of terms.
#pragma once

#include <memory>

#include "adapters/term.h"

namespace lowrank {

struct TermKind {
  const char* name;
  Op at;  // the operation it applies to
  std::unique_ptr<Term> (*make)(const AdapterSpec& spec, int index, const Site& site);
};

/// Throws Error("CONFIG") for an unknown kind.
const TermKind& term_kind(const TermSpec& spec);

}  // namespace lowrank
