/** Files that are cut short under a run which has them mapped: one error that names the file, and a checkpoint to go on from. */
import { copyFileSync, existsSync, readdirSync, statSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { loadModel } from '../../lib/model/load.js'
import { type Ended, lowrank, printed, type RunOptions } from '../lib/cli/lowrank.js'
import { scratchFolder } from '../lib/scratch.js'
import { needs } from '../needs.js'
import { sweepTest, swept } from '../sweep.js'
import { numbersOf, readMetrics } from './events.js'
import { type Project, project } from './project.js'
import { tinyModel } from './tiny-model.js'

let gguf: string
beforeAll(async () => {
  gguf = join(scratchFolder(), 'model.gguf')
  const model = await loadModel(tinyModel(), { precision: 'fp32' })
  await model.export(gguf, { format: 'gguf', dtype: 'q8_0' })
  await model.dispose()
})

const settings = {
  strategy: { name: 'lora', r: 4, lora_alpha: 8, lora_dropout: 0.05 },
  max_steps: 30,
  save_steps: 5,
  eval_dataset: 'dev.jsonl',
}

/** Does something once, when a run has saved its second checkpoint; it stands still meanwhile. */
function whenSaved(act: () => void): RunOptions['watch'] {
  needs('files that shrink while they are mapped')
  let done = false
  return (child, { stdout }) => {
    if (done || !stdout.includes('checkpoint-10')) return
    done = true
    child.kill('SIGSTOP')
    act()
    child.kill('SIGCONT')
  }
}

function failureOf(ended: Ended): { code?: string; message?: string } {
  expect(ended.code).toBe(1)
  return printed<'train'>(ended).at(-1) as { code?: string; message?: string }
}

/** The run goes on from its newest checkpoint and makes the numbers of one that was never disturbed. */
async function goesOn(it: Project, options: RunOptions = {}): Promise<void> {
  expect((await lowrank(['train', it.config, '--resume', '--json'], options)).code).toBe(0)
  const whole = ['--set', `output_dir=${it.at('whole')}`]
  expect((await lowrank(['train', it.config, '--json', ...whole], options)).code).toBe(0)
  const metrics = (folder: string) => numbersOf(readMetrics(it.at(folder, 'metrics.jsonl')))
  expect(metrics('out')).toEqual(metrics('whole'))
}

test.each(swept([0.6, 0], 1))('a GGUF file whose blocks are kept, cut to %f of its length', async (share) => {
  const it = project({ ...settings, quantization: 'keep', model: 'kept.gguf' })
  copyFileSync(gguf, it.at('kept.gguf'))
  const { size } = statSync(gguf)
  const ended = await lowrank(['train', it.config, '--json'], {
    watch: whenSaved(() => truncateSync(it.at('kept.gguf'), Math.floor(size * share))),
  })
  expect(failureOf(ended)).toMatchObject({
    code: 'FILE_FORMAT',
    message: expect.stringMatching(
      `${it.at('kept.gguf')} was truncated while it was in use: it had ${size} bytes and now has ${Math.floor(size * share)}.`,
    ),
  })
  expect(existsSync(it.at('out', 'adapter_model.safetensors'))).toBe(false)
  copyFileSync(gguf, it.at('kept.gguf'))
  await goesOn(it)
})

sweepTest('the file that a paged base lies in', async () => {
  const cache = scratchFolder()
  const options = { env: { LOWRANK_WEIGHT_CACHE: cache } }
  const it = project({ ...settings, quantization: 'none', paged_weights: true })
  let path = ''
  const ended = await lowrank(['train', it.config, '--json'], {
    ...options,
    watch: whenSaved(() => {
      path = join(cache, readdirSync(cache).find((name) => name.endsWith('.weights')) as string)
      truncateSync(path, 8192)
    }),
  })
  expect(failureOf(ended)).toMatchObject({ code: 'FILE_FORMAT', message: expect.stringContaining(path) })
  await goesOn(it, options)
})
