/** A folder as a user has it: a tiny model, data, and a config that trains on them in a moment. */
import { writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { chats, tinyModel } from './tiny-model.js'

export interface Project {
  folder: string
  /** Of the config; relative paths in it are relative to the folder. */
  config: string
  model: string
  /** A path inside the folder. */
  at(...names: string[]): string
}

const SETTINGS = {
  model: 'smollm2',
  strategy: { name: 'qlora', adapter: { name: 'lora', r: 4, lora_alpha: 8, lora_dropout: 0.05 } },
  dataset: 'train.jsonl',
  learning_rate: 5e-3,
  max_steps: 12,
  per_device_train_batch_size: 2,
  max_seq_length: 96,
  output_dir: 'out',
}

/** @param settings keys of the config that differ; undefined leaves one out */
export function project(settings: Record<string, unknown> = {}, rows = 40): Project {
  const model = tinyModel()
  const folder = dirname(model)
  const at = (...names: string[]) => join(folder, ...names)
  writeFileSync(at('train.jsonl'), chats(rows))
  writeFileSync(at('dev.jsonl'), chats(8))
  // JSON is YAML.
  writeFileSync(at('run.yaml'), JSON.stringify({ ...SETTINGS, ...settings }))
  return { folder, config: at('run.yaml'), model, at }
}
