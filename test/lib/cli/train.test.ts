/** Errors of `lowrank train`, each with one clear message; test/e2e/train.test.ts has the runs that succeed. */

import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type Project, project } from '../../e2e/project.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { needs } from '../../needs.js'
import { sweepTest } from '../../sweep.js'
import { jsonLines, lowrank } from './lowrank.js'

interface Refused {
  code: number | null
  message: string
  details: Record<string, unknown>
}

/** Runs a training that must fail: one error on each stream, and nothing written. */
async function refused({ config, folder, at }: Project, ...args: string[]): Promise<Refused> {
  const before = readdirSync(folder)
  const { code, stdout, stderr } = await lowrank(['train', config, '--json', ...args])
  const lines = jsonLines(stdout) as { event: string; message: string; details: Record<string, unknown> }[]
  expect(lines.map(({ event }) => event)).toEqual(['error'])
  const { message, details } = lines[0] as (typeof lines)[0]
  expect(stderr.split('\n').filter((line) => line.startsWith('error: '))).toEqual([`error: ${message}`])
  expect(existsSync(at('out'))).toBe(false)
  expect(readdirSync(folder)).toEqual(before)
  return { code, message, details }
}

test('a config that does not exist', async () => {
  const { code, stderr } = await lowrank(['train', '/nowhere/run.yaml'])
  expect(code).toBe(1)
  expect(stderr).toBe(
    'error: the config /nowhere/run.yaml does not exist; expected a YAML or JSON file\ncode FILE_FORMAT, see docs/troubleshooting.md\n',
  )
})

test('no config at all is wrong use', async () => {
  const { code, stderr } = await lowrank(['train'])
  expect(code).toBe(2)
  expect(stderr).toBe(
    'error: pass a config file, as in `lowrank train run.yaml`.\nsee lowrank train --help\n',
  )
})

test('an unknown config key is answered with the nearest one', async () => {
  const it = project({ leraning_rate: 1e-3 })
  expect(await refused(it)).toMatchObject({
    code: 2,
    message: `${it.config}: unknown key leraning_rate; did you mean learning_rate?`,
  })
})

test('an unknown key of --set is answered the same way', async () => {
  const it = project()
  expect(await refused(it, '--set', 'strategy.adapter.rank=3')).toMatchObject({
    code: 2,
    message: expect.stringMatching(/unknown key strategy\.adapter\.rank; /),
  })
})

test('rank 0', async () => {
  const it = project()
  expect(await refused(it, '--set', 'strategy.adapter.r=0')).toMatchObject({
    code: 2,
    message: `${it.config}: strategy.adapter.r is 0, expected a positive integer.`,
  })
})

test('a rank beyond any model', async () => {
  expect(await refused(project(), '--set', 'strategy.adapter.r=10000000')).toMatchObject({
    code: 2,
    message: expect.stringContaining('strategy.adapter.r is 10000000, expected an integer from 1 to 65536.'),
  })
})

test('an option of the adapter that a strategy wraps, given to the strategy', async () => {
  const it = project()
  expect(await refused(it, '--set', 'strategy.r=3')).toMatchObject({
    code: 2,
    message: `${it.config}: unknown key strategy.r; did you mean strategy.adapter.r?`,
  })
  expect(await refused(it, '--set', 'strategy=qlra')).toMatchObject({
    code: 2,
    message: `${it.config}: strategy is "qlra", expected a mapping of keys, as in {name: qlora}.`,
  })
})

test('a config that is no YAML', async () => {
  const it = project()
  cpSync(it.at('train.jsonl'), it.at('rows.yaml'))
  const { code, stderr } = await lowrank(['train', it.at('rows.yaml')])
  expect(code).toBe(2)
  expect(stderr).toMatch(/rows\.yaml: not valid YAML: .* column 1\. A config has keys and values such as /)
})

test('a run into the folder of another one is refused before the model is loaded', async () => {
  const it = project({ model: './nothing' })
  const call = (...args: string[]) => lowrank(['train', it.config, ...args])
  expect((await call()).stderr).toContain('there is no model at')
  mkdirSync(it.at('out'))
  writeFileSync(it.at('out', 'adapter_config.json'), '{}')
  const { code, stderr } = await call()
  expect(code).toBe(2)
  expect(stderr).toContain(
    `error: ${it.at('out')} holds the adapter of an earlier run. Use --set output_dir=OTHER to keep it, or --force to replace it.`,
  )
  expect((await call('--force')).stderr).toContain('there is no model at')
})

test('data without rows is found before the model is loaded', async () => {
  const it = project()
  truncateSync(join(it.model, 'model.safetensors'), 100)
  writeFileSync(it.at('train.jsonl'), '\n')
  expect((await refused(it)).message).toContain('train.jsonl holds no rows; expected one example per line')
})

test('a target that matches nothing', async () => {
  const it = project()
  expect(await refused(it, '--set', 'strategy.adapter.target_modules=[qproj]')).toMatchObject({
    code: 2,
    message:
      'target_modules: no linear layer matches "qproj". Linear layers of this model end in: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj; its embedding is embed_tokens.',
  })
})

test('a model that does not exist', async () => {
  const it = project({ model: './nothing' })
  expect(await refused(it)).toMatchObject({ code: 1, message: `there is no model at ${it.at('nothing')}` })
})

test('a truncated shard', async () => {
  const model = tinyModel('sharded')
  const shard = join(model, 'model-00003-of-00005.safetensors')
  truncateSync(shard, 4000)
  expect(await refused(project({ model }))).toMatchObject({
    code: 1,
    message: expect.stringMatching(
      new RegExp(
        `^${shard.replaceAll('\\', '\\\\')} is not a valid safetensors file: it is truncated: .* download it again$`,
      ),
    ),
  })
})

test('weights of a dtype that cannot be loaded', async () => {
  const it = project()
  const weights = join(it.model, 'model.safetensors')
  const bytes = readFileSync(weights)
  bytes.write('"I32"', bytes.indexOf('"F32"'), 'latin1')
  writeFileSync(weights, bytes)
  expect(await refused(it)).toMatchObject({
    code: 1,
    message: expect.stringMatching(/^tensor ".*" of .* has the dtype I32; supported: F32, F16, BF16$/),
  })
})

test('an unknown architecture', async () => {
  const it = project()
  const config = join(it.model, 'config.json')
  writeFileSync(config, readFileSync(config, 'utf8').replace('"llama"', '"gpt_neo"'))
  expect(await refused(it)).toMatchObject({
    code: 1,
    message: expect.stringMatching(
      /^config\.json: model_type is "gpt_neo", which is not supported\. Supported: gemma, gemma3_text, granite, /,
    ),
  })
})

test('a malformed line of the dataset is named', async () => {
  const it = project()
  writeFileSync(it.at('train.jsonl'), `${chats(6)}{"messages": [{"role": "user", "content": \n${chats(2)}`)
  const { code, message, details } = await refused(it)
  expect(code).toBe(1)
  expect(message).toMatch(/train\.jsonl, line 7: the line is not valid JSON: /)
  expect(details).toMatchObject({ path: it.at('train.jsonl'), line: 7 })
})

test('a dataset that does not exist', async () => {
  const it = project({ dataset: 'nothing.jsonl' })
  expect(await refused(it)).toMatchObject({ code: 1, message: `${it.at('nothing.jsonl')} does not exist` })
})

test('an output folder that cannot be, before the model is loaded', async () => {
  const it = project()
  const file = 'a file stands in its place or above it; choose another place'
  const nowhere = 'no folders can be made there; choose another place'
  for (const [place, why] of [
    ...(process.platform === 'linux' ? [['/proc/lowrank/out', nowhere]] : []),
    [it.at('train.jsonl'), file],
    [it.at('train.jsonl', 'out'), file],
  ] as const)
    expect(await refused(it, '--set', `output_dir=${place}`)).toMatchObject({
      code: 1,
      message: `cannot write the folder ${place}: ${why}`,
    })
})

test('data, a checkpoint and a tokenizer that are wrong are found before the model is loaded', async () => {
  const broken = () => {
    const it = project()
    truncateSync(join(it.model, 'model.safetensors'), 100)
    return it
  }
  const data = broken()
  writeFileSync(data.at('train.jsonl'), '{"question": "a", "answer": "b"}\n')
  expect((await refused(data)).message).toContain('line 1: the format of the dataset cannot be detected')
  const held = broken()
  expect((await refused(held, '--set', 'eval_dataset=nothing.jsonl')).message).toContain(
    'nothing.jsonl does not exist',
  )
  expect((await refused(broken(), '--resume')).message).toContain('holds no checkpoint to resume from.')
  const start = broken()
  expect((await refused(start, '--set', 'init_adapter=./first')).message).toContain(
    'first has no adapter_config.json',
  )
  const tokenizer = broken()
  writeFileSync(join(tokenizer.model, 'tokenizer.json'), '{')
  expect((await refused(tokenizer)).message).toContain('tokenizer.json')
  expect((await refused(broken())).message).toContain('model.safetensors is not a valid safetensors file')
})

sweepTest('more tokens than the model was made for are a warning', async () => {
  const it = project({ max_seq_length: 200, max_steps: 1 })
  const { code, stderr } = await lowrank(['train', it.config])
  expect(code).toBe(0)
  expect(stderr).toContain(
    'warning: max_seq_length is 200, but the model was trained on at most 128 tokens; longer rows are of little use.',
  )
})

sweepTest('held-out data that is trained on is a warning', async () => {
  const it = project({ max_steps: 1, sample_rows: 0, dataset: ['train.jsonl', 'dev.jsonl'] })
  const warns = async (path: string) => {
    const { code, stderr } = await lowrank(['train', it.config, '--force', '--set', `eval_dataset=${path}`])
    expect(code).toBe(0)
    return stderr.includes('warning: eval_dataset has data that is trained on')
  }
  writeFileSync(it.at('test.jsonl'), chats(8))
  expect(await warns('test.jsonl')).toBe(false)
  expect(await warns('dev.jsonl')).toBe(true)
})

test('an empty dataset', async () => {
  const it = project()
  writeFileSync(it.at('train.jsonl'), '\n\n')
  expect(await refused(it)).toMatchObject({
    code: 1,
    message: `${it.at('train.jsonl')} holds no rows; expected one example per line, record or element`,
  })
})

test('a dataset in which nothing is learned', async () => {
  const it = project({ max_seq_length: 16 })
  expect(await refused(it)).toMatchObject({
    code: 1,
    message: expect.stringMatching(
      /train\.jsonl, line 1: there is nothing to train on: .* max_seq_length truncates/,
    ),
  })
  const dropping = project({ max_seq_length: 16, dataset: { path: 'train.jsonl', empty_rows: 'drop' } })
  expect(await refused(dropping)).toMatchObject({
    code: 1,
    message: expect.stringContaining('none of the 40 rows of'),
  })
})

test('a dataset that never teaches the model to stop', async () => {
  // Questions have 35 to 37 tokens, rows 45 and more.
  const it = project({ max_seq_length: 40 })
  expect(await refused(it)).toMatchObject({
    code: 1,
    message: expect.stringMatching(/none of the 40 examples of .* teaches the model to stop/),
  })
})

test('resuming where no checkpoint is', async () => {
  const it = project()
  expect(await refused(it, '--resume')).toMatchObject({
    code: 2,
    message: `${it.at('out')} holds no checkpoint to resume from. Train without --resume; save_steps: N saves one every N steps.`,
  })
})

sweepTest('resuming with another learning rate names it', async () => {
  const it = project({ max_steps: 2, save_steps: 1 })
  expect((await lowrank(['train', it.config])).code).toBe(0)
  const { code, stderr } = await lowrank(['train', it.config, '--set', 'learning_rate=1e-4', '--resume'])
  expect(code).toBe(2)
  expect(stderr).toMatch(
    /checkpoint-2 cannot be resumed exactly: learning_rate is 0\.005 there and 0\.0001 here/,
  )
})

test('a run that diverges has failed: it was not used wrongly', async () => {
  const it = project({ max_steps: 4, learning_rate: 1e30, max_grad_norm: 0, warmup_ratio: 0 })
  const { code, stdout, stderr } = await lowrank(['train', it.config, '--json'])
  expect(code).toBe(1)
  const [checkpoint, error] = jsonLines(stdout).slice(-2)
  expect(checkpoint).toMatchObject({ event: 'checkpoint', step: 1, path: it.at('out', 'checkpoint-1') })
  expect(error).toMatchObject({ event: 'error', code: 'DIVERGED', details: { step: 2, lastGoodStep: 1 } })
  expect(stderr).toContain('Lower learning_rate (1e+30)')
})

test('a full disk fails the save, and neither half a checkpoint nor half an adapter is left', async () => {
  needs('POSIX shells')
  const it = project({ max_steps: 6, save_steps: 3 })
  // The kernel refuses files of more than 20 KiB: the adapter is larger, config and metrics are not.
  const { code, stdout } = await lowrank(['train', it.config, '--json'], {
    wrap: (node, args) => ['sh', ['-c', 'ulimit -f 40; exec "$0" "$@"', node, ...args]],
  })
  expect(code).toBe(1)
  expect(jsonLines(stdout).at(-1)).toMatchObject({
    event: 'error',
    code: 'WRITE',
    message: expect.stringMatching(/^cannot write .*; no partial file was left$/),
    details: { reason: 'EFBIG', path: it.at('out', 'checkpoint-3', 'adapter_model.safetensors') },
  })
  expect(readdirSync(it.at('out')).sort()).toEqual(['config.yaml', 'metrics.jsonl', 'run.json'])
  expect(readdirSync(it.folder).filter((name) => name.includes('.tmp'))).toEqual([])
})

test('a run that is far too large is refused before its model is loaded, unless it is forced', async () => {
  const it = project({ max_steps: 1, warmup_ratio: 0, optimizer: 'adamw' })
  // A machine on which 64 KiB are left.
  const env = { NODE_OPTIONS: '--import=data:text/javascript,process.availableMemory=()=>65536' }
  const { code, stdout, stderr } = await lowrank(['train', it.config, '--json'], { env })
  expect(code).toBe(1)
  expect(jsonLines(stdout)).toMatchObject([
    { event: 'error', code: 'OUT_OF_MEMORY', details: { available: 65536, needed: expect.any(Number) } },
  ])
  expect(stderr).toMatch(/^error: this run needs [\d.]+ [KM]iB of memory, and 64\.0 KiB are free\. /m)
  expect(stderr).toContain(
    `\`npx lowrank plan ${it.config} --fit 64.0KiB\` looks for settings that fit; --force trains all the same.`,
  )
  expect(stderr).not.toContain('gradient_checkpointing')
  expect(stderr).not.toContain('Loading')
  expect(existsSync(it.at('out'))).toBe(false)
  const forced = await lowrank(['train', it.config, '--force'], { env })
  expect(forced.code, forced.stderr).toBe(0)
  expect(forced.stderr).toMatch(/^warning: this run needs .* more, and 64\.0 KiB are free\. /m)
})

sweepTest('without --json the words go to stderr and the outcome to stdout', async () => {
  const it = project({ max_steps: 2, eval_dataset: 'dev.jsonl', save_steps: 1 })
  const { code, stdout, stderr } = await lowrank(['train', it.config])
  expect(code).toBe(0)
  expect(stderr).toMatch(/^40 rows, [\d,]+ tokens, [\d,]+ of them trained on\.$/m)
  expect(stderr).toMatch(/^step 2\/2 {2}loss \d+\.\d{4} {2}\S+ tokens\/s {2}memory .* MiB$/m)
  expect(stderr).toMatch(/^step 2: evaluation loss \d+\.\d{4}, perplexity /m)
  expect(stderr).toContain(`step 1: saved ${it.at('out', 'checkpoint-1')}`)
  expect(stdout).toMatch(/^2 steps, mean loss /m)
  expect(stdout).toContain(`npx lowrank generate ${it.config} --`)
})

sweepTest('the same run again says the ways on, and each of them works', async () => {
  const it = project({ max_steps: 2, save_steps: 1 })
  const call = (...args: string[]) => lowrank(['train', it.config, ...args])
  await call()
  const { code, stderr } = await call()
  expect(code).toBe(2)
  expect(stderr).toMatch(
    /^error: .*out holds the adapter and checkpoints of an earlier run\. Use --resume to continue/m,
  )
  expect(stderr).toContain(
    'Use --resume to continue it, --set output_dir=OTHER to keep it, or --force to replace it.',
  )
  expect((await call('--set', 'output_dir=other')).code).toBe(0)
  expect((await call('--force')).code).toBe(0)
  const broken = it.at('out', 'checkpoint-2')
  truncateSync(join(broken, 'adapter_model.safetensors'), 1000)
  const resumed = await call('--resume')
  expect(resumed.code).toBe(0)
  expect(resumed.stderr).toContain(`note: ${broken} cannot be used: adapter_model.safetensors is damaged.`)
  expect(resumed.stderr).toContain(`Resuming from ${it.at('out', 'checkpoint-1')}.`)
})

test('the portable kernels are slow, which a run says before its first step', async () => {
  const it = project({ max_steps: 1 })
  const { code, stderr } = await lowrank(['train', it.config], { env: { LOWRANK_ISA: 'reference' } })
  expect(code).toBe(0)
  expect(stderr).toContain(
    'warning: the portable kernels are in use, many times slower than others: LOWRANK_ISA=reference asks for them.',
  )
})
