/**
 * Weights of other programs, recognized by their content so that a message can say what a file is: adapters as
 * safetensors files (PEFT's, mlx-lm's, and kohya's for image models), and models of MLX.
 */
import { UnsupportedError } from '../core/errors.js'
import type { SafetensorsHeader } from './safetensors.js'

/** The naming scheme of an adapter's tensors. */
export type AdapterForm = 'peft' | 'mlx' | 'kohya'

const FORMS: readonly [AdapterForm, RegExp][] = [
  ['peft', /\.lora_(embedding_)?[AB](\.|$)/],
  ['mlx', /\.lora_[ab]$/],
  ['kohya', /^lora_\w+\.lora_(down|up)\.weight$/],
]

/** The form of an adapter's tensors; undefined if they are not those of an adapter. */
export function adapterForm({ tensors }: Pick<SafetensorsHeader, 'tensors'>): AdapterForm | undefined {
  for (const [form, pattern] of FORMS) for (const name of tensors.keys()) if (pattern.test(name)) return form
  return undefined
}

/** The error for a LoRA of an image model. */
export function kohyaRefused(path: string): UnsupportedError {
  return new UnsupportedError(
    `${path} is a LoRA in the format of kohya's sd-scripts (lora_unet_…, lora_te_…), which is for an image model such as Stable Diffusion; lowrank reads adapters of language models. Use it in diffusers or ComfyUI.`,
    { path },
  )
}

/**
 * @param config contents of config.json
 * @param folder the model's folder, for messages
 * @throws {UnsupportedError} for a model that MLX has quantized, whose weights are packed with `.scales` and `.biases`
 */
export function refuseMlx(config: Readonly<Record<string, unknown>>, folder: string): void {
  const { bits, group_size: size } = (config.quantization ?? {}) as { bits?: unknown; group_size?: unknown }
  if (typeof bits !== 'number' || typeof size !== 'number') return
  throw new UnsupportedError(
    `${folder} is a model of MLX, quantized to ${bits} bits in groups of ${size}, which lowrank cannot read. Use the model that it was made from, which its README.md names as base_model; or, where MLX runs, write its weights unquantized: mlx_lm.convert --hf-path ${folder} --dequantize --mlx-path OUTPUT`,
    { path: folder, bits, groupSize: size },
  )
}
