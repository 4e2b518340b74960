/** Models on a GPU, that of the stand-in driver, and what is said where there is none. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { packOf } from '../../../scripts/cuda/pack.mjs'
import { tinyModel } from '../../e2e/tiny-model.js'
import { sweepTest } from '../../sweep.js'
import { hasStandin, standin } from '../native/cuda-standin.js'
import { jsonLines, lowrank, printed } from './lowrank.js'

async function cudaOf(env: Record<string, string>) {
  const [report] = printed<'doctor'>(await lowrank(['doctor', '--json'], { env }))
  return report?.cuda
}

sweepTest('doctor says why there is no GPU', async () => {
  expect(await cudaOf({ LOWRANK_DISABLE_CUDA: '1' })).toEqual({
    available: false,
    reason: 'LOWRANK_DISABLE_CUDA=1 is set',
    cards: [],
  })
  const { reason } = (await cudaOf({ LOWRANK_LIBCUDA: '/nowhere/libcuda.so.1' })) ?? {}
  expect(reason).toContain('/nowhere/libcuda.so.1')
})

test('a GPU that cannot be used is refused with the reason', async () => {
  const env = { LOWRANK_DISABLE_CUDA: '1' }
  const { code, stderr } = await lowrank(
    ['generate', '--model', 'demo/base', '--device', 'cuda', '--prompt', 'a'],
    { env },
  )
  expect(code).toBe(1)
  expect(stderr).toContain('device is cuda, which cannot be used: LOWRANK_DISABLE_CUDA=1 is set.')
})

describe.runIf(hasStandin)('on the stand-in driver', () => {
  sweepTest('doctor lists the cards, and says what is wrong with the others', async () => {
    const cuda = await cudaOf(standin({ LOWRANK_STANDIN_DEVICES: '90,75' }))
    expect(cuda?.available).toBe(true)
    expect(cuda?.reason).toContain(
      'cuda:0 Stand-in 90, driver for CUDA 12.9; cuda:1 (Stand-in 75): its compute',
    )
    expect(cuda?.cards).toMatchObject([
      { device: 'cuda:0', compute_capability: 9 },
      {
        device: 'cuda:1',
        compute_capability: 7.5,
        problem: expect.stringContaining('8.0 (Ampere) or newer'),
      },
    ])
    const old = await cudaOf(standin({ LOWRANK_STANDIN_VERSION: '11080' }))
    expect(old?.reason).toContain(
      'the driver supports CUDA 11.8; the kernels need 12.0 (driver R525 or newer)',
    )
    const bare = await cudaOf({ ...standin(), LOWRANK_CUDA_PACK: '/nowhere/lowrank.cuda' })
    expect(bare).toMatchObject({ available: false, reason: expect.stringContaining('/nowhere/lowrank.cuda') })
  })

  /** Losses of a short run, and what it notes. */
  async function trained(device: string, env: Record<string, string>, more: object = {}) {
    const folder = mkdtempSync(join(tmpdir(), 'lowrank-device-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    const dataset = join(folder, 'data.jsonl')
    writeFileSync(dataset, '{"text": "a tiny row"}\n{"text": "another one"}\n')
    const config = join(folder, 'run.yaml')
    const run = {
      ...{ model: resolve('demo/base'), strategy: { name: 'lora' }, dataset, device, precision: 'fp32' },
      ...{ max_steps: 2, max_seq_length: 16, sample_rows: 0, output_dir: join(folder, 'out') },
      ...more,
    }
    writeFileSync(config, JSON.stringify(run))
    const ended = await lowrank(['train', config, '--json'], { env: { ...env, LOWRANK_MEASURE: 'off' } })
    expect(ended).toMatchObject({ code: 0 })
    const events = jsonLines(ended.stdout) as { loss?: number }[]
    const losses = events.flatMap(({ loss }) => (loss === undefined ? [] : [loss]))
    return { losses, notes: ended.stderr, config }
  }

  sweepTest(
    'a run trains there, close to the CPU, the same bits under every order of its streams',
    async () => {
      const { losses: cpu } = await trained('cpu', {})
      const { losses: late } = await trained('cuda', standin())
      const { losses: random } = await trained('auto', standin({ LOWRANK_STANDIN_ORDER: 'random:7' }))
      expect(late.length).toBeGreaterThan(1)
      expect(random).toEqual(late)
      // A card without room for the run is passed over.
      const small = standin({ LOWRANK_STANDIN_MEMORY: '500000000' })
      expect((await trained('auto', small)).losses).toEqual(cpu)
      for (const [i, loss] of late.entries()) expect(loss).toBeCloseTo(cpu[i] as number, 3)
    },
  )

  sweepTest('a run trains by a compressed pack, and a damaged one is named', async () => {
    const env = standin()
    const { losses } = await trained('cuda', env)
    // The code of its kernels is their names, in the pack that it wrote.
    const written = readFileSync(env.LOWRANK_CUDA_PACK as string)
    const begin = written.indexOf('\u007fELFnames')
    const code = written.subarray(begin, written.indexOf(0, begin) + 1)
    const kernels = code
      .toString('latin1', 0, code.length - 1)
      .split('\n')
      .slice(1)
    const bytes = packOf([{ name: 'all', kernels, images: [{ sm: 80, ptx: false, bytes: code }] }])
    expect(bytes.length).toBeLessThan(written.length)
    const pack = join(mkdtempSync(join(tmpdir(), 'lowrank-pack-')), 'lowrank.cuda')
    onTestFinished(() => rmSync(dirname(pack), { recursive: true }))
    writeFileSync(pack, bytes)
    const compressed = { ...env, LOWRANK_CUDA_PACK: pack }
    expect((await trained('cuda', compressed)).losses).toEqual(losses)
    for (const at of [bytes.length - 1, bytes.length - 300]) {
      const changed = Buffer.from(bytes)
      changed[at] = (changed[at] as number) ^ 0x41
      writeFileSync(pack, changed)
      const { code, stderr } = await lowrank(
        ['generate', '--model', 'demo/base', '--device', 'cuda', '--prompt', 'a'],
        { env: compressed },
      )
      expect(code).toBe(1)
      expect(stderr).toContain(`${pack} is damaged: `)
      expect(stderr).toContain('Install the package again.')
    }
  })

  sweepTest(
    'a base passes through the card from pinned memory, or where that is refused from its file',
    async () => {
      const usual = await trained('cuda', standin(), { max_steps: 1 })
      const streamed = { max_steps: 1, paged_weights: true, activation_offloading: true }
      const pinned = await trained('cuda', standin({ LOWRANK_STANDIN_ORDER: 'random:3' }), streamed)
      expect(pinned.losses).toEqual(usual.losses)
      expect(pinned.notes).toMatch(/paged_weights +\S+ \S+ +\d+ % +\S+ \S+\n/)
      expect(pinned.notes).toMatch(/peak +\S+ \S+ +100 % +\S+ \S+\n/)
      expect(pinned.notes).not.toContain('refused')
      const [planned] = printed<'plan'>(await lowrank(['plan', pinned.config, '--json'], { env: standin() }))
      expect(planned?.card).toMatchObject({ name: '0', fits: true })
      const [bytes, pinned_bytes] = [expect.any(Number), expect.any(Number)]
      expect(planned?.rows).toContainEqual({ category: 'paged_weights', bytes, pinned_bytes })
      // Room for what copies pass through, and not for the base.
      const scarce = await trained('cuda', standin({ LOWRANK_STANDIN_PINNED: String(24 << 20) }), streamed)
      expect(scarce.losses).toEqual(usual.losses)
      expect(
        scarce.notes.match(/The system refused \S+ [KMG]iB of pinned memory for the base/g),
      ).toHaveLength(1)
    },
  )

  sweepTest('so does the base of a GGUF file without quantization', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'lowrank-gguf-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    for (const dtype of ['f16', 'f32']) {
      const model = join(folder, `${dtype}.gguf`)
      const written = ['--model', tinyModel(), '--output', model, '--dtype', dtype]
      expect(await lowrank(['export', '--format', 'gguf', ...written, '--no-check'])).toMatchObject({
        code: 0,
      })
      const usual = await trained('cuda', standin(), { model, max_steps: 1 })
      const streamed = { model, max_steps: 1, paged_weights: true }
      const pinned = await trained('cuda', standin({ LOWRANK_STANDIN_ORDER: 'random:3' }), streamed)
      expect(pinned.losses).toEqual(usual.losses)
      expect(pinned.notes).toContain('paged_weights')
      const [cpu] = (await trained('cpu', {}, { model, max_steps: 1 })).losses
      expect(pinned.losses[0]).toBeCloseTo(cpu as number, 3)
      const scarce = await trained('cuda', standin({ LOWRANK_STANDIN_PINNED: String(24 << 20) }), streamed)
      expect(scarce.losses).toEqual(usual.losses)
    }
  })
})
