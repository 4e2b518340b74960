/**
 * Names that other programs have for options and commands. Messages about unknown keys and the tables in
 * docs/coming-from.md are generated from this data.
 */
import { FOREIGN_OPTIONS, NO_PREFERENCES } from './foreign-options.js'
import type { ForeignKey, ForeignKeys } from './foreign-values.js'

/** Commands of other programs: the equivalent command, or a sentence about the alternative. */
export const FOREIGN_VERBS = separate({
  'sft finetune fine-tune tune fit lora qlora pretrain': { here: 'train' },
  'evaluate test': { here: 'eval' },
  benchmark: { here: 'bench' },
  'predict inference infer complete run': { here: 'generate' },
  'fuse merge-lora': { here: 'merge' },
  'convert quantize': { here: 'export' },
  env: { here: 'doctor' },
  preprocess: { here: 'inspect', note: 'it shows the tokens of a dataset that are trained on' },
  'dpo kto orpo grpo rloo ppo reward': { note: NO_PREFERENCES },
  'server api': { here: 'serve' },
  'webui webchat': {
    note: '`lowrank watch OUTPUT_DIR` serves the page of a run, `lowrank train CONFIG --live` also answers prompts there, and `lowrank chat` in the terminal',
  },
  launch: {
    note: '`lowrank train CONFIG` starts a run of one process, and `mpirun -n N npx lowrank train CONFIG` one of N',
  },
}) as Readonly<Record<string, { here?: string; note?: string }>>

/** The options by topic, each by itself. */
export const foreignKeys = new Map(
  Object.entries(FOREIGN_OPTIONS).map(([topic, keys]) => [topic, separate(keys)]),
)

/** Adds the options that are those of one task or strategy, which its record has. */
export function addForeignKeys(topic: string, records: readonly { readonly foreign?: ForeignKeys }[]): void {
  const own = separate(Object.assign({}, ...records.map(({ foreign }) => foreign)))
  foreignKeys.set(topic, { ...foreignKeys.get(topic), ...own })
  byPlainName = undefined
}

let byPlainName: ReadonlyMap<string, ForeignKey> | undefined

/** Looks up another program's key in any spelling: `loraRank`, `lora_rank`, and `--lora-rank` are the same. */
export function foreignKey(key: string): ForeignKey | undefined {
  byPlainName ??= new Map(
    [...foreignKeys.values()].flatMap((keys) =>
      Object.entries(keys).map(([name, entry]) => [plain(name), entry]),
    ),
  )
  return byPlainName.get(plain(key))
}

function separate(keys: ForeignKeys): Record<string, ForeignKey> {
  return Object.fromEntries(
    Object.entries(keys).flatMap(([names, entry]) => names.split(' ').map((name) => [name, entry])),
  )
}

function plain(key: string): string {
  return key.toLowerCase().replace(/[-_]/g, '')
}
