// Made by scripts/lists.mjs: all areas, for one level.
#include "backends/cpu/activation.inl"
#include "backends/cpu/columns.inl"
#include "backends/cpu/cross_entropy.inl"
#include "backends/cpu/delta_rule.inl"
#include "backends/cpu/elementwise.inl"
#include "backends/cpu/gated_unit.inl"
#include "backends/cpu/norm.inl"
#include "backends/cpu/short_conv.inl"
