// Kinds of the steps at a linear and an embedding, with the adapters that act there.
#pragma once

#include "plan/step.h"

namespace lowrank::steps {

extern const StepKind embedding;               // tokens -> y
extern const StepKind adapter_norm;            // the row norms at a linear whose adapter has a magnitude
extern const StepKind linear;                  // x -> y, aux = h (train), residual; x2 = y before its rows are scaled
extern const StepKind adapter_hidden;          // x -> aux = h alone, when only the gradient of B needs it
extern const StepKind magnitude_gradient;      // x = y before it is scaled, or y; dy -> dx scaled too; adds to the magnitude's
extern const StepKind linear_param_gradient;   // x, aux = h, dy -> y = gradient at h; adds to the adapter's gradients
extern const StepKind kronecker_gradient;      // x, dy -> dx f32, added when `accumulate`; adds to the adapter's gradients
extern const StepKind embedding_adapter_gradient;  // tokens (x), dy -> adds to the gradients of A and B at an embedding
extern const StepKind linear_input_gradient;   // terms (dy, gradient at h) -> dx, added when `accumulate`, plus residual
extern const StepKind weight_gradient;         // x, dy -> adds to the gradients of its weight and bias
extern const StepKind embedding_gradient;      // tokens (x), dy -> adds to the gradient of the table

}  // namespace lowrank::steps
