import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import type { Printed } from '../../../lib/cli/schemas.js'
import { readGgufHeader } from '../../../lib/formats/gguf.js'
import { project } from '../../e2e/project.js'
import { lowrank, printed } from './lowrank.js'

test('an adapter is exported in every format, read back and compared; what does not go together is one error', async () => {
  const { config, at } = project()
  const ended = await lowrank(['train', config])
  expect(ended.code, ended.stderr).toBe(0)
  const run = async (format: string, output: string, ...more: string[]) => {
    const flags = ['--format', format, '--adapter', at('out'), '--output', at(output), ...more]
    const done = await lowrank(['export', '--json', ...flags])
    expect(done.code, done.stderr).toBe(0)
    const [found] = printed<'export'>(done) as [Printed<'export'>]
    expect(found).toMatchObject({ output: at(output), format, remarks: [] })
    expect(found.check?.top1_agreement).toBeGreaterThan(0.9)
    expect(found.check?.kl).toBeLessThan(5e-3)
    return found
  }
  const dtypes = async (file: string) =>
    new Set((await readGgufHeader(at(file))).tensors.map(({ type }) => type.name))

  expect((await run('gguf', 'tuned.gguf', '--dtype', 'q8_0')).files).toEqual(['tuned.gguf'])
  expect(await dtypes('tuned.gguf')).toEqual(new Set(['Q8_0', 'F32']))
  const alone = await run('gguf-lora', 'adapter.gguf')
  expect(alone.check?.max_abs_logit_error).toBeLessThan(1e-4)
  expect(await dtypes('adapter.gguf')).toEqual(new Set(['F32']))
  expect((await run('safetensors', 'merged', '--dtype', 'bf16')).files).toContain('model.safetensors')
  const both = await run('ollama', 'ollama', '--separate-adapter')
  expect(readdirSync(at('ollama')).sort()).toEqual(both.files)
  expect(both.files).toEqual(['Modelfile', 'adapter.gguf', 'model.gguf'])
  expect(readFileSync(at('ollama/Modelfile'), 'utf8')).toMatch(
    /^FROM \.\/model\.gguf\nADAPTER \.\/adapter\.gguf\nTEMPLATE """\{\{ range .*PARAMETER stop "<\|im_end\|>"\nPARAMETER stop "<\|im_start\|>"\nPARAMETER num_ctx 128\n$/s,
  )

  const told = (format: string, output: string) =>
    lowrank(['export', '--format', format, '--adapter', at('out'), '--output', at(output), '--no-check'])
  const [gguf, ollama, folder] = await Promise.all([
    told('gguf', 'again.gguf'),
    told('ollama', 'Tuned'),
    told('safetensors', 'folder'),
  ])
  expect(gguf.stdout).toMatch(/\n\nTry it:\n {2}llama-cli -m \S+again\.gguf\n$/)
  expect(ollama.stdout).toMatch(
    /\n {2}ollama create tuned -f \S+Tuned[\\/]Modelfile\n {2}ollama run tuned\n$/,
  )
  expect(folder.stdout).not.toContain('Try it')

  const shown = await lowrank(['inspect', at('adapter.gguf'), '--json'])
  expect(printed<'inspect'>(shown)).toMatchObject([
    { kind: 'adapter', peft_type: 'LORA', dtypes: ['F32'], supported: true, path: at('adapter.gguf') },
  ])

  const refused = async (...args: string[]) => {
    const { code, stderr } = await lowrank(['export', ...args])
    return { code, error: stderr.split('\n').find((line) => line.startsWith('error: ')) }
  }
  const adapter = ['--adapter', at('out'), '--output', at('no')]
  expect(
    await Promise.all([
      refused('--format', 'gguf', '--adapter', at('out'), '--output', at('tuned.gguf')),
      refused('--format', 'onnx', ...adapter),
      refused('--format', 'gguf-lora', ...adapter, '--dtype', 'q8_0'),
      refused('--format', 'gguf', ...adapter, '--separate-adapter'),
      refused('--format', 'gguf-lora', '--model', at('smollm2'), '--output', at('no')),
    ]),
  ).toEqual([
    { code: 2, error: expect.stringContaining('already exists; choose another path') },
    {
      code: 2,
      error: expect.stringContaining('Allowed choices are safetensors, gguf, gguf-lora, ollama, vllm'),
    },
    { code: 2, error: expect.stringContaining('--dtype q8_0 is for the format gguf and ollama') },
    { code: 2, error: expect.stringContaining('--separate-adapter is for the format ollama') },
    {
      code: 2,
      error: expect.stringContaining('gguf-lora writes an adapter, but none was given; pass --adapter'),
    },
  ])
  expect(existsSync(at('no'))).toBe(false)
})

test('training says what vLLM ignores, and an export for vLLM has none of it and says how to serve it', async () => {
  const { config, at } = project({
    max_steps: 2,
    strategy: {
      name: 'lora',
      r: 4,
      lora_alpha: 8,
      target_modules: ['q_proj', 'v_proj'],
      rank_pattern: { q_proj: 20 },
    },
  })
  const ended = await lowrank(['train', config])
  expect(ended.code, ended.stderr).toBe(0)
  expect(ended.stderr).toContain(
    'note: vLLM ignores rank_pattern of this adapter, so its modules would have wrong scales; export it with format vllm',
  )
  const flags = ['--format', 'vllm', '--adapter', at('out'), '--output', at('served')]
  const done = await lowrank(['export', ...flags])
  expect(done.code, done.stderr).toBe(0)
  expect(done.stderr).toContain('note: vLLM needs --max-lora-rank 32 for the rank of 20; its default is 16.')
  expect(done.stdout).toMatch(
    /\nfiles +adapter_config\.json, adapter_model\.safetensors, lowrank\.json\n.*\n {2}vllm serve \S+smollm2 --enable-lora --max-lora-rank 32 --lora-modules served=\S+served\n$/s,
  )
  expect(JSON.parse(readFileSync(at('served/adapter_config.json'), 'utf8'))).toMatchObject({
    r: 20,
    rank_pattern: {},
    alpha_pattern: {},
  })
  const [again, typed, bare] = await Promise.all([
    lowrank(['export', ...flags]),
    lowrank(['export', ...flags, '--force', '--dtype', 'f16']),
    lowrank(['export', '--format', 'vllm', '--model', at('smollm2'), '--output', at('no')]),
  ])
  expect([again.code, typed.code, bare.code]).toEqual([2, 2, 2])
  expect(again.stderr).toContain('already exists; choose another path')
  // vLLM would take the tokenizer of a model in the folder for that of the adapter.
  writeFileSync(at('served/tokenizer.json'), '{}')
  writeFileSync(at('served/notes.txt'), 'mine')
  const beside = await lowrank(['export', ...flags, '--force'])
  expect(beside.code).toBe(2)
  expect(beside.stderr).toContain(
    `${at('served')} has files of another export, which vllm does not replace: tokenizer.json. Remove them, or choose another path.`,
  )
  rmSync(at('served/tokenizer.json'))
  const forced = await lowrank(['export', ...flags, '--force'])
  expect(forced.code, forced.stderr).toBe(0)
  expect(forced.stderr).toContain(`${at('served')} keeps files that this export did not write: notes.txt.`)
  expect(readFileSync(at('served/notes.txt'), 'utf8')).toBe('mine')
  expect(typed.stderr).toContain('--dtype f16 is for the format safetensors, gguf, gguf-lora, and ollama')
  expect(bare.stderr).toContain('--format vllm writes an adapter, but none was given; pass --adapter.')
})
