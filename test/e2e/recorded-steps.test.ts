/** Runs that are killed at the moment a checkpoint appears: its steps are in metrics.jsonl. */
import { existsSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { lowrank } from '../lib/cli/lowrank.js'
import { scratchFile } from '../lib/scratch.js'
import { only, readMetrics } from './events.js'
import { project } from './project.js'
import { lines, TASKS } from './tasks.js'
import { chats } from './tiny-model.js'

const SAVED = 2

/** Node options by which a process kills itself once a checkpoint has its name. */
const NODE_OPTIONS = `--import=data:text/javascript,${encodeURIComponent(`
  import fs from 'node:fs/promises'
  import module from 'node:module'
  const { rename } = fs
  fs.rename = async (from, to) => {
    await rename(from, to)
    if (to.endsWith('checkpoint-${SAVED}')) process.kill(process.pid, 'SIGKILL')
  }
  module.syncBuiltinESMExports()
`)}`

const owned = chats(30)
  .trim()
  .split('\n')
  .map((row, i) => ({ ...JSON.parse(row), user: `u${i % 10}` }))

const KINDS = {
  'the next token': {},
  'the best step': { eval_dataset: 'dev.jsonl', eval_steps: 1, load_best_model_at_end: true },
  dpo: {
    strategy: { name: 'lora', r: 4 },
    task: 'dpo',
    dataset: scratchFile('pairs.jsonl', lines(TASKS.dpo.rows)),
    ...TASKS.dpo.settings,
  },
  'private clients': {
    strategy: {
      name: 'dp-dylora',
      adapter: { name: 'dylora', r: 4, lora_alpha: 8, trained_ranks: 'active' },
      clients: { column: 'user' },
      target_epsilon: 8,
      rounds: 20,
      cohort: 4,
    },
    dataset: scratchFile('clients.jsonl', lines(owned)),
    max_steps: undefined,
  },
}

test.each(Object.keys(KINDS) as (keyof typeof KINDS)[])(
  'a checkpoint of %s covers no step that metrics.jsonl lacks',
  async (kind) => {
    const { at, config } = project({ save_steps: SAVED, sample_rows: 0, ...KINDS[kind] })
    const { code, stderr } = await lowrank(['train', config, '--json'], { env: { NODE_OPTIONS } })
    expect({ code, stderr }).toMatchObject({ code: null })
    const folder = existsSync(at('out-secret')) ? 'out-secret' : 'out'
    expect(existsSync(at(folder, `checkpoint-${SAVED}`))).toBe(true)
    const text = readFileSync(at(folder, 'metrics.jsonl'), 'utf8')
    expect(text.endsWith('\n')).toBe(true)
    const steps = only(readMetrics(at(folder, 'metrics.jsonl')), 'step')
    expect(steps.map(({ step }) => step)).toEqual([1, 2])
    if (folder === 'out-secret') expect(steps.every((step) => step.epsilon !== undefined)).toBe(true)
  },
)
