// Made by scripts/lists.mjs from native/lists.json.
#pragma once

#include "plan/op.h"

namespace lowrank {

#if !defined(_WIN32)
#pragma GCC visibility push(hidden)
#endif
extern const OpRules embedding;
extern const OpRules rms_norm;
extern const OpRules linear;
extern const OpRules cast;
extern const OpRules add;
extern const OpRules rope;
extern const OpRules attention;
extern const OpRules gated_unit;
extern const OpRules slice;
extern const OpRules short_conv;
extern const OpRules silu_conv;
extern const OpRules gated_delta_rule;
extern const OpRules lm_head;
extern const OpRules receive;
extern const OpRules send;
#if !defined(_WIN32)
#pragma GCC visibility pop
#endif

inline constexpr OpTable kOps{
    &embedding,
    &rms_norm,
    &linear,
    &cast,
    &add,
    &rope,
    &attention,
    &gated_unit,
    &slice,
    &short_conv,
    &silu_conv,
    &gated_delta_rule,
    &lm_head,
    &receive,
    &send,
};

}  // namespace lowrank
