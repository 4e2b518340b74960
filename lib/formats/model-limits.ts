/**
 * Upper bounds above the sizes of any real model. Files are untrusted, so each size is checked before anything is built
 * from it. Within these bounds, byte sums over all layers stay below 2^63, and sizes of single tensors are exact.
 */
export const LARGEST_SIZES: Readonly<Record<string, number>> = {
  num_hidden_layers: 1024,
  hidden_size: 1 << 20,
  intermediate_size: 1 << 20,
  block_ff_dim: 1 << 20,
  conv_L_cache: 32,
  linear_conv_kernel_dim: 32,
  linear_num_key_heads: 1 << 14,
  linear_num_value_heads: 1 << 14,
  linear_key_head_dim: 1 << 10,
  linear_value_head_dim: 1 << 10,
  num_attention_heads: 1 << 14,
  num_key_value_heads: 1 << 14,
  head_dim: 1 << 14,
  vocab_size: 1 << 23,
}

/** Heads times head_dim: the width of attention. */
export const LARGEST_ATTENTION_WIDTH = 1 << 20
