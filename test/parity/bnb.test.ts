/**
 * Models that transformers and bitsandbytes saved in 4 and 8 bits (bnb/, made by make_bnb.py): their logits, and that nothing of
 * their bytes changes on the way in.
 */
import { copyFileSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readSafetensorsHeader, readTensor } from '../../lib/formats/safetensors.js'
import { loadModel } from '../../lib/model/load.js'
import { graphOf, openModelFiles } from '../../lib/models/index.js'
import { addon } from '../../lib/native/addon.js'
import { planModel } from '../../lib/planning/plan.js'
import { lora } from '../../lib/strategies/lora.js'
import { qlora } from '../../lib/strategies/qlora.js'
import { fp4, int8, nf4, sameQuantization } from '../../lib/weights/quantization.js'
import { scratchFolder } from '../lib/scratch.js'
import { floats, ints, parity, readGolden, relativeError } from './engine.js'

const CASES = {
  odd_double: { model: 'odd', quantization: nf4(), format: 'nf4_double', quantized: 14 },
  smollm2_single: {
    model: 'smollm2',
    quantization: nf4({ doubleQuant: false }),
    format: 'nf4',
    quantized: 14,
  },
  tinyllama_mixed: { model: 'tinyllama', quantization: nf4(), format: 'nf4_double', quantized: 12 },
  odd_fp4_double: { model: 'odd', quantization: fp4(), format: 'fp4_double', quantized: 14 },
  smollm2_fp4_single: {
    model: 'smollm2',
    quantization: fp4({ doubleQuant: false }),
    format: 'fp4',
    quantized: 14,
  },
  odd_int8: { model: 'odd', quantization: int8(), format: 'int8', quantized: 12 },
  qwen2_int8: { model: 'qwen2', quantization: int8(), format: 'int8', quantized: 14 },
} as const

async function allTensors(path: string): Promise<Map<string, Buffer>> {
  const all = new Map<string, Buffer>()
  for (const name of readdirSync(path).filter((file) => file.endsWith('.safetensors'))) {
    const header = await readSafetensorsHeader(join(path, name))
    for (const tensor of header.tensors.keys()) all.set(tensor, Buffer.from(await readTensor(header, tensor)))
  }
  return all
}

describe.each(Object.entries(CASES))('%s', (name, { model: origin, quantization, format, quantized }) => {
  const { type } = quantization
  const folder = join(parity, 'bnb', name)

  it('gives the logits of its dequantized weights', async () => {
    const batch = await readGolden(`golden/${origin}.safetensors`)
    const golden = floats(await readGolden(`bnb/${name}.logits.safetensors`), 'logits')
    const bounds = ints(batch, 'cu_seqlens')
    const model = await loadModel(folder, { precision: 'fp32' })
    try {
      expect(model.quantization).toEqual(quantization)
      const vocab = golden.length / ints(batch, 'input_ids').length
      for (let s = 0; s + 1 < bounds.length; s++) {
        const [begin, end] = [bounds[s] as number, bounds[s + 1] as number]
        const logits = await model.logits(ints(batch, 'input_ids').slice(begin, end))
        expect(relativeError(logits, golden.subarray(begin * vocab, end * vocab))).toBeLessThan(1e-5)
      }
    } finally {
      await model.dispose()
    }
  })

  it('is held in the very codes and scales of the files', async () => {
    const files = await openModelFiles(folder)
    const bytesOf = async (tensor: string) => {
      for (const file of new Set([...files.tensors.values()].map((source) => source.file))) {
        const header = await readSafetensorsHeader(file)
        if (header.tensors.has(tensor)) return Buffer.from(await readTensor(header, tensor))
      }
      throw new Error(`no tensor ${tensor}`)
    }
    const native = addon().createModel(graphOf(files.config))
    const sources = [...files.tensors.values()].filter((source) => source.scales)
    expect(sources).toHaveLength(quantized)
    for (const source of sources) {
      await native.loadWeight(source.name, source, format).promise
      const packed = await native.packed(source.name).promise
      expect(Buffer.from(packed.codes).equals(await bytesOf(source.name))).toBe(true)
      const scales = type === 'int8' ? source.name.replace(/weight$/, 'SCB') : `${source.name}.absmax`
      expect(Buffer.from(packed.absmax).equals(await bytesOf(scales))).toBe(true)
      if (!format.endsWith('_double')) continue
      const nested = await bytesOf(`${source.name}.nested_absmax`)
      expect(Buffer.from(packed.nestedAbsmax as Uint8Array).equals(nested)).toBe(true)
      expect(packed.absmaxOffset).toBe(Math.fround(source.scales?.absmaxOffset as number))
    }
    await native.dispose()
  })

  it('is saved in the same bytes, and loads again', async () => {
    const output = join(scratchFolder(), 'saved')
    const model = await loadModel(folder, { precision: 'fp32' })
    try {
      await model.save(output, { dtype: type, check: false })
    } finally {
      await model.dispose()
    }
    const [before, after] = [await allTensors(folder), await allTensors(output)]
    expect([...after.keys()].sort()).toEqual([...before.keys()].sort())
    for (const [tensor, bytes] of before) expect(after.get(tensor)?.equals(bytes), tensor).toBe(true)
    await (await loadModel(output)).dispose()
    const about = (path: string) => JSON.parse(readFileSync(join(path, 'config.json'), 'utf8'))
    const { quantization_config: quantization, ...config } = about(folder)
    expect(readFileSync(join(output, 'config.json'), 'utf8')).toMatch(/"llm_int8_threshold": [46]\.0/)
    expect(about(output)).toEqual({
      ...config,
      // Codes are bytes, whatever they were stored under.
      quantization_config: { ...quantization, bnb_4bit_quant_storage: 'uint8' },
    })
  })

  it('is planned as it is loaded, also from its config alone', async () => {
    const shape = { strategy: lora({ r: 4 }), perDeviceTrainBatchSize: 1, maxSeqLength: 64 }
    const planned = await planModel(folder, shape)
    const model = await loadModel(folder)
    const held = model.memory.rows
    await model.dispose()
    for (const category of ['weights', 'quantization_constants'])
      expect(planned.rows.find((row) => row.category === category)).toEqual(
        held.find((row) => row.category === category),
      )
    const bare = scratchFolder()
    copyFileSync(join(folder, 'config.json'), join(bare, 'config.json'))
    expect((await planModel(bare, shape)).rows).toEqual(planned.rows)
  })

  it('takes no other quantization than its own', async () => {
    const same = await loadModel(folder, { quantization })
    if (type === 'nf4') await same.attach(qlora())
    else await expect(same.attach(qlora())).rejects.toMatchObject({ code: 'CONFIG' })
    await same.dispose()
    const others = [nf4(), nf4({ doubleQuant: false }), fp4(), int8()]
    for (const asked of ['none', ...others.filter((one) => !sameQuantization(one, quantization))] as const) {
      const refused = { code: 'CONFIG', message: expect.stringContaining('are already quantized as ') }
      await expect(loadModel(folder, { quantization: asked })).rejects.toMatchObject(refused)
      await expect(planModel(folder, { strategy: lora(), quantization: asked })).rejects.toMatchObject(
        refused,
      )
    }
    const defaultQuantization = type === 'int8' ? fp4() : int8()
    const other = await loadModel(folder, { defaultQuantization })
    expect(other.quantization).toEqual(quantization)
    await other.dispose()
  })
})

describe('a model that is quantized here', () => {
  it.each([
    ['smollm2', nf4(), undefined],
    ['smollm2', nf4({ doubleQuant: false }), 'smollm2_single'],
    ['smollm2', fp4(), undefined],
    ['smollm2', fp4({ doubleQuant: false }), undefined],
    ['qwen2', int8(), 'qwen2_int8'],
  ] as const)(
    '%s is saved as bitsandbytes would (%j), and loads again',
    async (name, quantization, golden) => {
      const output = join(scratchFolder(), 'saved')
      const model = await loadModel(join(parity, 'models', name), { precision: 'fp32', quantization })
      try {
        await model.save(output, { dtype: quantization.type, check: false })
      } finally {
        await model.dispose()
      }
      const again = await loadModel(output)
      expect(again.quantization).toEqual(quantization)
      await again.dispose()
      if (golden === undefined) return
      // The same model, quantized by bitsandbytes.
      const [expected, saved] = [await allTensors(join(parity, 'bnb', golden)), await allTensors(output)]
      expect([...saved.keys()].sort()).toEqual([...expected.keys()].sort())
      for (const [tensor, bytes] of expected) expect(saved.get(tensor)?.equals(bytes), tensor).toBe(true)
    },
  )

  it('is not saved in a format that it is not held in', async () => {
    const output = join(scratchFolder(), 'saved')
    const plain = await loadModel(join(parity, 'models/smollm2'), { precision: 'fp32' })
    for (const [dtype, name] of [
      ['nf4', 'NF4'],
      ['fp4', 'FP4'],
      ['int8', 'int8'],
    ] as const)
      await expect(plain.save(output, { dtype })).rejects.toThrow(`is not loaded in ${name}`)
    await plain.dispose()
  })
})
