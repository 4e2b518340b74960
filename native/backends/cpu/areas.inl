// Made by scripts/lists.mjs: all areas, for one level.
#include "backends/cpu/norm.inl"
