// The own kernels of each level. A `run` that does not match its struct would leave the level to the reference, which
// is slow and not wrong, so that no other test would notice.
#include "backends/cpu/table.h"

#include <string>

#include "kernels/kernels.h"
#include "ops_support.h"

namespace lowrank::test {

/// Kernels that a table has otherwise than another one.
std::string changed(const cpu::Table& table, const cpu::Table& from) {
  std::string names;
  for (size_t i = 0; i < table.size(); ++i)
    if (table[i] != from[i]) names += std::string(kernel_names()[i]) + ' ';
  return names;
}

TEST("each level has its own kernels, and else those of the reference") {
  for_levels([&](cpu::Level level) {
    if (level == cpu::Level::reference) return;
    CHECK_EQ(changed(cpu::kernels(level).table, cpu::table_reference),
             "attention attention_backward "
             "scale_columns_backward "
             "cross_entropy "
             "gated_delta_rule gated_delta_rule_backward "
             "rope gather_rows scatter_add_rows dropout dropout_backward scale_columns "
             "gated_unit gated_unit_backward "
             "gemm_nt grouped_gemm_nt gemm_nt_by_row gemm_nn reduce_tokens "
             "kronecker kronecker_backward "
             "rms_norm rms_norm_backward "
             "add_pair split_pair "
             "cayley_neumann cayley_neumann_backward rotate rotate_by_series rotation_gradient "
             "decode_rows "
             "short_conv silu_conv_slope short_conv_backward short_conv_gradient "
             "sum_of_squares "
             "adamw sgd lion ");
  });
}

#if defined(__x86_64__)
TEST("the level with tiles has kernels of its own for products, and else those of the level below") {
  if (!cpu::available(cpu::Level::amx)) return;
  CHECK_EQ(changed(cpu::kernels(cpu::Level::amx).table, cpu::kernels(cpu::Level::avx512bf16).table),
           "attention attention_backward gemm_nt grouped_gemm_nt gemm_nn reduce_tokens kronecker kronecker_backward ");
  CHECK_EQ(changed(cpu::kernels(cpu::Level::avx512bf16).table, cpu::kernels(cpu::Level::avx512).table).find("pair"),
           std::string::npos);
}
#endif

}  // namespace lowrank::test
