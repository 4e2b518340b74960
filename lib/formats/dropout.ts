/** Dropout inside a base model, which acts in training only and has no kernels here. */

/** Keys in config.json, of all families. */
const KEYS = ['attention_dropout', 'resid_pdrop', 'embd_pdrop'] as const

/** A remark for each kind of dropout that the model's config asks for; one sentence each, without the period. */
export function dropoutRemarks(config: Record<string, unknown>): string[] {
  return KEYS.filter((key) => (config[key] ?? 0) !== 0).map(
    (key) =>
      `${key} of the model is ${JSON.stringify(config[key])}; dropout inside the base is not supported, so training goes on without it`,
  )
}
