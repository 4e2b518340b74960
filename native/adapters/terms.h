// The kinds of terms that there are.
#pragma once

#include <memory>

#include "adapters/term.h"

namespace lowrank {

struct TermKind {
  const char* name;
  Op at;  // what it acts at
  std::unique_ptr<Term> (*make)(const AdapterSpec& spec, int index, const Site& site);
};

/// Throws Error("CONFIG") for a kind that there is not.
const TermKind& term_kind(const TermSpec& spec);

}  // namespace lowrank
