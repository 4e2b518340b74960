// Everything that the vector sources use from outside their target region: it must be declared before the region
// starts, or the inline functions of these headers would be compiled for the wider instruction set and shared with
// everyone.
#pragma once

#if defined(__x86_64__)
#pragma GCC diagnostic push
#if !defined(__clang__)
// GCC 12 warns about the deliberately undefined operands in its own AVX-512 header.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "backends/cpu/attention/attention.h"
#include "backends/cpu/sequence/delta_rule.h"
#include "backends/cpu/kernels.h"
#include "backends/cpu/adapters/kronecker.h"
#include "backends/cpu/rows/norm.h"
#include "backends/cpu/ops_common.h"
#include "backends/cpu/rows/rows_by_id.h"
#include "backends/cpu/optim/updates.h"
#include "core/math.h"
