// The own kernels of each level. A `run` that does not match its struct would leave the level to the reference, which
// is slow and not wrong, so that no other test would notice.
#include "backends/cpu/table.h"

#include <string>

#include "kernels/kernels.h"
#include "ops_support.h"

namespace lowrank::test {

TEST("each level has its own kernels, and the reference all that have moved to tables") {
  const auto listed = [](const cpu::Table& table) {
    std::string names;
    for (size_t i = 0; i < table.size(); ++i)
      if (table[i] != nullptr) names += std::string(kernel_names()[i]) + ' ';
    return names;
  };
  CHECK_EQ(listed(cpu::table_reference),
           "adafactor "
           "append_to_cache attention attention_backward "
           "bias_gradient scale_columns_backward "
           "cross_entropy "
           "gated_delta_rule gated_delta_rule_backward delta_rule_gradient "
           "rope gather_rows scatter_add_rows zero cast add_constant add_noise dropout dropout_backward scale_columns "
           "fold fold_gradient fold_snapshot build_pair_a fold_pair spread_pair_a spread_pair_b "
           "draw_rows add_ratios ratios_over magnitude_gains "
           "gated_unit gated_unit_backward "
           "kronecker kronecker_backward kronecker_c spread_kronecker_c "
           "rms_norm rms_norm_backward norm_gradient "
           "project_gradient orthogonal "
           "cayley_neumann cayley_neumann_backward rotate rotate_by_series rotation_gradient "
           "row_squares gram row_norms second_moment "
           "embedding_gradient "
           "short_conv silu_conv_slope short_conv_backward short_conv_gradient keep_conv_inputs "
           "sum_of_squares "
           "adamw sgd lion follow_importances ");
  for_levels([&](cpu::Level level, const cpu::OpKernels&) {
    if (level == cpu::Level::reference) return;
    CHECK_EQ(listed(*cpu::kernels(level).table),
             "attention attention_backward "
             "scale_columns_backward "
             "cross_entropy "
             "gated_delta_rule gated_delta_rule_backward "
             "rope gather_rows scatter_add_rows dropout dropout_backward scale_columns "
             "gated_unit gated_unit_backward "
             "kronecker kronecker_backward "
             "rms_norm rms_norm_backward "
             "cayley_neumann cayley_neumann_backward rotate rotate_by_series rotation_gradient "
             "short_conv silu_conv_slope short_conv_backward short_conv_gradient "
             "sum_of_squares "
             "adamw sgd lion ");
  });
}

#if defined(__x86_64__)
TEST("the level with tiles has kernels of its own for products, and else those of the level below") {
  std::string names;
  for (size_t i = 0; i < cpu::table_amx.size(); ++i)
    if (cpu::table_amx[i] != cpu::table_avx512bf16[i]) names += std::string(kernel_names()[i]) + ' ';
  CHECK_EQ(names, "attention attention_backward kronecker kronecker_backward ");
}
#endif

}  // namespace lowrank::test
