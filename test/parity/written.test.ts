/**
 * The folders in written/ are ours, and check_roundtrip.py showed that PEFT loads them and gives our logits (the commands
 * are in README.md). Our writer must still write them byte for byte, so that stays true without Python.
 */
import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, describe, expect, it } from 'vitest'
import { floats, parity, readGolden, relativeError } from './engine.js'

const root = join(parity, '../..')
const work = mkdtempSync(join(tmpdir(), 'lowrank-written-'))
afterAll(() => rmSync(work, { recursive: true, force: true }))

const cases = {
  llama3: { model: 'llama3' },
  vera: {
    model: 'llama3',
    name: 'vera',
    r: 6,
    projectionPrngKey: 3,
    targetModules: ['q_proj', 'k_proj', 'down_proj'],
  },
  adalora: {
    model: 'llama3',
    name: 'adalora',
    initR: 6,
    targetR: 3,
    loraAlpha: 8,
    targetModules: ['q_proj', 'up_proj'],
  },
  miss: { model: 'llama3', name: 'miss', r: 6, targetModules: ['q_proj', 'down_proj'] },
  oft: { model: 'llama3', name: 'oft', oftBlockSize: 8, targetModules: ['q_proj', 'down_proj'] },
  hira: { model: 'llama3', name: 'hira', r: 3, targetModules: ['q_proj', 'down_proj'] },
  loha: {
    model: 'llama3',
    name: 'loha',
    r: 3,
    alpha: 6,
    rankPattern: { q_proj: 2 },
    targetModules: ['q_proj', 'up_proj'],
  },
  lokr: { model: 'qwen2', name: 'lokr', r: 4, alpha: 8, decomposeBoth: true, decomposeFactor: 8 },
  dora: { model: 'qwen2', name: 'dora', r: 4, loraAlpha: 8, rankPattern: { q_proj: 2 }, useRslora: true },
  trained: {
    model: 'qwen2_window',
    targetModules: ['q_proj', 'embed_tokens'],
    modulesToSave: ['lm_head', 'v_proj', 'input_layernorm'],
    bias: 'all',
  },
  tied: { model: 'smollm2', targetModules: ['q_proj'], modulesToSave: ['lm_head'] },
  vllm: {
    model: 'llama3',
    format: 'vllm',
    rankPattern: { q_proj: 2, down_proj: 5 },
    alphaPattern: { v_proj: 12 },
    targetModules: ['q_proj', 'v_proj', 'down_proj'],
  },
  embedding: { model: 'half', targetModules: ['v_proj', 'embed_tokens'] },
  mistral: {
    model: 'mistral',
    targetModules: ['q_proj', 'v_proj'],
    rankPattern: { q_proj: 2 },
    alphaPattern: { v_proj: 16 },
    useRslora: true,
  },
}

describe.each(Object.entries(cases))(
  'the adapter %s that PEFT was shown to load',
  (name, { model, ...options }) => {
    it('is still written byte for byte, and still gives those logits', async () => {
      const output = join(work, name)
      const script = [
        'test/parity/write_adapter.mjs',
        `test/parity/models/${model}`,
        output,
        JSON.stringify(options),
      ]
      await promisify(execFile)(process.execPath, script, { cwd: root })
      const expected = join(parity, 'written', name, 'adapter')
      // PEFT does not read the model card.
      const files = readdirSync(join(output, 'adapter')).filter((file) => file !== 'README.md')
      expect(files.sort()).toEqual(readdirSync(expected).sort())
      for (const file of readdirSync(expected))
        expect(
          readFileSync(join(output, 'adapter', file)).equals(readFileSync(join(expected, file))),
          file,
        ).toBe(true)
      const golden = await readGolden(`written/${name}/logits.safetensors`)
      const now = await readGolden(join(output, 'logits.safetensors'))
      expect(relativeError(floats(now, 'logits'), floats(golden, 'logits'))).toBeLessThan(1e-5)
    })
  },
)
