/** Paths that users have, and Windows above all: with spaces, beyond ASCII, and longer than 260 characters. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { cp } from 'node:fs/promises'
import { join, sep } from 'node:path'
import { expect, test } from 'vitest'
import { lowrank, type RunOptions } from '../lib/cli/lowrank.js'
import { numbersOf, readMetrics } from './events.js'
import { project } from './project.js'

const SETTINGS = {
  max_steps: 4,
  save_steps: 2,
  paged_weights: true,
  optimizer: 'paged_adamw',
  sample_rows: 0,
}

async function call(args: string[], options: RunOptions): Promise<void> {
  const { code, stderr } = await lowrank(args, options)
  expect(code, stderr).toBe(0)
}

test('a run in a folder of a long name is the same as in a short one', async () => {
  const it = project(SETTINGS)
  const names = [
    'Modelle für später',
    '模型 & data (1)',
    "it's 100% long ".padEnd(120, 'x').trim(),
    'y'.repeat(120),
  ]
  const far = it.at(...names)
  expect(far.length).toBeGreaterThan(280)
  mkdirSync(far, { recursive: true })
  // Not cpSync, which knows no long paths on Windows.
  await cp(it.model, join(far, 'the model'), { recursive: true })
  renameSync(it.at('dev.jsonl'), join(far, 'dév set.jsonl'))
  writeFileSync(join(far, 'train ü.jsonl'), readFileSync(it.at('train.jsonl')))
  const config = join(far, 'my run.yaml')
  const keys = { model: join(far, 'the model'), dataset: 'train *.jsonl', output_dir: 'my ausgabe' }
  writeFileSync(config, JSON.stringify({ ...JSON.parse(readFileSync(it.config, 'utf8')), ...keys }))
  const env = { LOWRANK_WEIGHT_CACHE: join(far, 'the cache') }
  const out = join(far, 'my ausgabe')

  await call(['train', it.config, '--json'], { env: { LOWRANK_WEIGHT_CACHE: it.at('cache') } })
  await call(['train', config, '--json'], { env })
  const metrics = (path: string) => numbersOf(readMetrics(path))
  const expected = metrics(it.at('out', 'metrics.jsonl'))
  expect(metrics(join(out, 'metrics.jsonl'))).toEqual(expected)
  await call(['train', config, '--resume', join(out, 'checkpoint-2'), '--json'], { env })
  expect(metrics(join(out, 'metrics.jsonl'))).toEqual(expected)
  const adapter = ['--adapter', out]
  await call(['eval', config, '--dataset', join(far, 'dév set.jsonl'), '--json'], { env })
  await call(['generate', config, '--prompt', 'Hello', '--max-new-tokens', '2'], { env })
  await call(['merge', ...adapter, '--output', join(far, 'merged ü')], { env })
  await call(['export', ...adapter, '--format', 'gguf', '--output', join(far, 'exported ü.gguf')], { env })
  await call(['inspect', join(far, 'exported ü.gguf')], { env })
}, 300_000)

test.runIf(sep === '\\')(
  'a drive that does not exist is named, and slashes of both kinds are taken',
  async () => {
    const it = project({ max_steps: 1, sample_rows: 0 })
    const none = await lowrank(['train', it.config, '--set', 'output_dir=Q:\\runs\\out'])
    expect(none.code).toBe(1)
    expect(none.stderr).toContain('cannot write the folder Q:\\runs\\out: no folders can be made there')
    const slashes = (path: string) => path.replaceAll('\\', '/')
    const set = [
      `dataset=${slashes(it.at('train.*'))}`,
      `output_dir=${slashes(it.at('out'))}`,
      `model=${it.model}`,
    ]
    await call(['train', slashes(it.config), ...set.flatMap((pair) => ['--set', pair])], {})
  },
)
