import { cpSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import type { Printed } from '../../../lib/cli/schemas.js'
import { type Project, project } from '../../e2e/project.js'
import { sweepTest } from '../../sweep.js'
import { jsonLines, lowrank, printed, withoutWaits } from './lowrank.js'

/** A project whose adapter is trained. */
async function trained(): Promise<Project> {
  const made = project()
  const { code, stderr } = await lowrank(['train', made.config])
  expect(stderr).not.toContain('error')
  expect(code).toBe(0)
  return made
}

test('an adapter is merged into the model that its folder names, as it was held in training', async () => {
  const { at } = await trained()
  const output = at('merged')
  const ended = await lowrank(['merge', '--adapter', at('out'), '--output', output, '--json'])
  expect(ended.code, ended.stderr).toBe(0)
  const [found, ...more] = printed<'merge'>(ended) as [Printed<'merge'>]
  expect(more).toEqual([])
  expect(found.output).toBe(output)
  expect(found.files).toContain('model.safetensors')
  expect(found.check?.kl).toBeLessThan(1e-3)
  expect(found.check?.top1_agreement).toBeGreaterThan(0.95)
  expect(withoutWaits(ended.stderr)).toMatch(/^Loading .*smollm2 with .*out\nWriting .*merged\n$/)

  const asked = [
    'generate',
    '--json',
    '--prompt',
    'Colour of sky 1?',
    '--max-new-tokens',
    '12',
    '--precision',
    'fp32',
  ]
  const [separate, merged] = await Promise.all([
    lowrank([...asked, '--model', at('smollm2'), '--adapter', at('out')]),
    lowrank([...asked, '--model', output]),
  ])
  const text = ({ stdout: lines }: { stdout: string }) => (jsonLines(lines)[0] as { text: string }).text
  expect(text(merged)).toBe(text(separate))

  const people = await lowrank([
    ...['merge', '--adapter', at('out'), '--output', output, '--force', '--dtype', 'f32'],
    ...['--dataset', at('dev.jsonl')],
  ])
  expect(people.stdout).toMatch(
    /^written .*\nfiles .*\nKL divergence +\S+ nats per token\ntop-1 agreement +(?:9[5-9]|100)\.\d % of \d+ tokens\nlargest logit error/,
  )
  expect(JSON.parse(readFileSync(at('merged/config.json'), 'utf8')).dtype).toBe('float32')
})

sweepTest('what is taken, unknown or of another model is one error, and nothing is written', async () => {
  const { at } = await trained()
  const output = at('merged')
  cpSync(at('out'), at('vera'), { recursive: true })
  const config = JSON.parse(readFileSync(at('out/adapter_config.json'), 'utf8'))
  writeFileSync(at('vera/adapter_config.json'), JSON.stringify({ ...config, peft_type: 'XLORA' }))
  cpSync(at('out'), at('homeless'), { recursive: true })
  writeFileSync(
    at('homeless/adapter_config.json'),
    JSON.stringify({ ...config, base_model_name_or_path: null }),
  )
  cpSync(at('smollm2'), at('other'), { recursive: true })
  const odd = fileURLToPath(new URL('../../parity/models/llama3', import.meta.url))
  const other = JSON.parse(readFileSync(at('other/config.json'), 'utf8'))
  writeFileSync(at('other/config.json'), JSON.stringify({ ...other, rms_norm_eps: 1e-4 }))
  const refused = async (...args: string[]) => {
    const { code, stdout, stderr } = await lowrank(['merge', ...args])
    expect(stdout).toBe('')
    return { code, error: stderr.split('\n').find((line) => line.startsWith('error: ')) }
  }
  const found = await Promise.all([
    refused('--adapter', at('out'), '--output', at('out')),
    refused('--output', output),
    refused('--adapter', at('nothing'), '--output', output),
    refused('--adapter', at('vera'), '--output', output),
    refused('--adapter', at('homeless'), '--output', output),
    refused('--adapter', at('out'), '--model', at('other'), '--output', output),
    refused('--adapter', at('out'), '--model', odd, '--output', output),
    refused('--adapter', at('out'), '--output', output, '--dtype', 'nf4'),
    refused('--adapter', at('out'), '--output', output, '--dtype', 'int8'),
    refused('--adapter', at('out'), '--output', output, '--dtype', 'f8'),
    refused('--adapter', at('out'), '--output', output, '--max-loss', '0.5'),
    refused('--adapter', at('out'), '--output', output, '--max-shard-size', '5 parsecs'),
  ])
  expect(found).toEqual([
    { code: 2, error: expect.stringMatching(/out already exists; choose another path/) },
    { code: 2, error: expect.stringContaining('pass --adapter, or --model for the model alone') },
    { code: 1, error: expect.stringContaining('has no adapter_config.json') },
    { code: 1, error: expect.stringContaining('peft_type is "XLORA"') },
    { code: 2, error: expect.stringContaining('does not name the model it was trained on; pass --model') },
    { code: 2, error: expect.stringContaining('was not trained on the files of') },
    { code: 1, error: expect.stringMatching(/lora_[AB]\.weight is \[/) },
    { code: 2, error: expect.stringContaining('change would remain') },
    { code: 2, error: expect.stringContaining('is not loaded in int8') },
    { code: 2, error: expect.stringContaining('Allowed choices are bf16, f16, f32, nf4, fp4, int8') },
    { code: 2, error: expect.stringContaining('but nothing is quantized') },
    { code: 2, error: expect.stringContaining('as in 500MB or 8GiB') },
  ])
  expect(existsSync(output)).toBe(false)
})

test('a model alone is written in 4 bits, which changes nothing more', async () => {
  const { model, at } = project()
  const output = at('nf4')
  const ended = await lowrank(['merge', '--model', model, '--dtype', 'nf4', '--output', output, '--json'])
  expect(ended.code, ended.stderr).toBe(0)
  const [found] = printed<'merge'>(ended) as [Printed<'merge'>]
  expect(found.check).toMatchObject({ kl: 0, top1_agreement: 1, max_abs_logit_error: 0 })
  const again = await lowrank([
    'merge',
    '--model',
    output,
    '--dtype',
    'nf4',
    '--output',
    at('again'),
    '--json',
  ])
  expect(again.code, again.stderr).toBe(0)
  const weights = (path: string) => readFileSync(`${path}/model.safetensors`)
  expect(weights(at('again')).equals(weights(output))).toBe(true)
})

sweepTest('an adapter that rounding to 4 bits would undo is not merged, unless that is allowed', async () => {
  const { config, at } = project()
  const { code } = await lowrank(['train', config, '--set', 'quantization=nf4', '--set', 'max_steps=2'])
  expect(code).toBe(0)
  const merge = ['merge', '--adapter', at('out'), '--dtype', 'nf4', '--output', at('nf4')]
  const refused = await lowrank(merge)
  expect(refused.code).toBe(2)
  expect(refused.stderr).toMatch(/in NF4 \S+ % of the adapters' change would remain/)
  expect(existsSync(at('nf4'))).toBe(false)
  const allowed = await lowrank([...merge, '--max-loss', '1', '--max-shard-size', '100kB', '--json'])
  expect(allowed.code, allowed.stderr).toBe(0)
  const [found] = printed<'merge'>(allowed) as [Printed<'merge'>]
  expect(found.survival?.kept).toBeLessThan(0.9)
  expect(found.survival?.tensors.length).toBeGreaterThan(0)
  expect(found.files).toContain('model.safetensors.index.json')
  const people = await lowrank([...merge, '--max-loss', '1', '--force'])
  expect(people.stdout).toMatch(
    /adapter preserved +\S+ %; least \S+ % in model\.layers\.\d.*\nrounding error/,
  )
})
