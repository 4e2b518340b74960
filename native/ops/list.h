// Made by scripts/lists.mjs from the files of operations.
#pragma once

#include "plan/op.h"

namespace lowrank {

#if !defined(_WIN32)
#pragma GCC visibility push(hidden)
#endif
extern const OpRules add;
extern const OpRules attention;
extern const OpRules cast;
extern const OpRules embedding;
extern const OpRules gated_delta_rule;
extern const OpRules gated_unit;
extern const OpRules linear;
extern const OpRules lm_head;
extern const OpRules receive;
extern const OpRules send;
extern const OpRules rms_norm;
extern const OpRules rope;
extern const OpRules short_conv;
extern const OpRules silu_conv;
extern const OpRules slice;
#if !defined(_WIN32)
#pragma GCC visibility pop
#endif

inline constexpr OpTable kOps{
    &add,
    &attention,
    &cast,
    &embedding,
    &gated_delta_rule,
    &gated_unit,
    &linear,
    &lm_head,
    &receive,
    &send,
    &rms_norm,
    &rope,
    &short_conv,
    &silu_conv,
    &slice,
};

}  // namespace lowrank
