/**
 * Models that transformers and bitsandbytes saved in 4 bits (bnb/, made by make_bnb.py): their logits, and that nothing of
 * their bytes changes on the way in.
 */
import { copyFileSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openModelFiles } from '../../lib/files/model-files.js'
import { readSafetensorsHeader, readTensor } from '../../lib/files/safetensors.js'
import { loadModel } from '../../lib/model.js'
import { graphOf } from '../../lib/models/index.js'
import { addon } from '../../lib/native/addon.js'
import { planModel } from '../../lib/plan.js'
import { lora } from '../../lib/strategies/lora.js'
import { qlora } from '../../lib/strategies/qlora.js'
import { nf4 } from '../../lib/strategies/quantization.js'
import { scratchFolder } from '../lib/files/scratch.js'
import { floats, ints, parity, readGolden, relativeError } from './engine.js'

const CASES = {
  odd_double: { model: 'odd', doubleQuant: true, quantized: 14 },
  smollm2_single: { model: 'smollm2', doubleQuant: false, quantized: 14 },
  tinyllama_mixed: { model: 'tinyllama', doubleQuant: true, quantized: 12 },
}

async function allTensors(path: string): Promise<Map<string, Buffer>> {
  const all = new Map<string, Buffer>()
  for (const name of readdirSync(path).filter((file) => file.endsWith('.safetensors'))) {
    const header = await readSafetensorsHeader(join(path, name))
    for (const tensor of header.tensors.keys()) all.set(tensor, Buffer.from(await readTensor(header, tensor)))
  }
  return all
}

describe.each(Object.entries(CASES))('%s', (name, { model: origin, doubleQuant, quantized }) => {
  const folder = join(parity, 'bnb', name)

  it('gives the logits of its dequantised weights', async () => {
    const batch = await readGolden(`golden/${origin}.safetensors`)
    const golden = floats(await readGolden(`bnb/${name}.logits.safetensors`), 'logits')
    const bounds = ints(batch, 'cu_seqlens')
    const model = await loadModel(folder, { precision: 'fp32' })
    try {
      expect(model.quantization).toEqual(nf4({ doubleQuant }))
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
    const sources = [...files.tensors.values()].filter((source) => source.nf4)
    expect(sources).toHaveLength(quantized)
    for (const source of sources) {
      await native.loadWeight(source.name, source, doubleQuant ? 'nf4_double' : 'nf4').promise
      const packed = await native.packedNf4(source.name).promise
      expect(Buffer.from(packed.codes).equals(await bytesOf(source.name))).toBe(true)
      expect(Buffer.from(packed.absmax).equals(await bytesOf(`${source.name}.absmax`))).toBe(true)
      if (!doubleQuant) continue
      const nested = await bytesOf(`${source.name}.nested_absmax`)
      expect(Buffer.from(packed.nestedAbsmax as Uint8Array).equals(nested)).toBe(true)
      expect(packed.absmaxOffset).toBe(Math.fround(source.nf4?.absmaxOffset as number))
    }
    native.dispose()
  })

  it('is saved in the same bytes, and loads again', async () => {
    const output = join(scratchFolder(), 'saved')
    const model = await loadModel(folder, { precision: 'fp32' })
    try {
      await model.save(output, { dtype: 'nf4', check: false })
    } finally {
      await model.dispose()
    }
    const [before, after] = [await allTensors(folder), await allTensors(output)]
    expect([...after.keys()].sort()).toEqual([...before.keys()].sort())
    for (const [tensor, bytes] of before) expect(after.get(tensor)?.equals(bytes), tensor).toBe(true)
    await (await loadModel(output)).dispose()
    const about = (path: string) => JSON.parse(readFileSync(join(path, 'config.json'), 'utf8'))
    const { quantization_config: quantization, ...config } = about(folder)
    expect(readFileSync(join(output, 'config.json'), 'utf8')).toContain('"llm_int8_threshold": 6.0')
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

  it('takes QLoRA, and no other quantisation than its own', async () => {
    const same = await loadModel(folder, { quantization: nf4({ doubleQuant }) })
    await same.attach(qlora())
    await same.dispose()
    for (const quantization of ['none', nf4({ doubleQuant: !doubleQuant })] as const) {
      const refused = { code: 'CONFIG', message: expect.stringContaining('are quantised already, as ') }
      await expect(loadModel(folder, { quantization })).rejects.toMatchObject(refused)
      await expect(planModel(folder, { strategy: lora(), quantization })).rejects.toMatchObject(refused)
    }
    const other = await loadModel(folder, { defaultQuantization: nf4({ doubleQuant: !doubleQuant }) })
    expect(other.quantization).toEqual(nf4({ doubleQuant }))
    await other.dispose()
  })
})

describe('a model that is quantised here', () => {
  it.each([true, false])(
    'is saved as bitsandbytes would (double_quant %j), and loads again',
    async (doubleQuant) => {
      const folder = join(parity, 'models/smollm2')
      const output = join(scratchFolder(), 'saved')
      const model = await loadModel(folder, { precision: 'fp32', quantization: nf4({ doubleQuant }) })
      try {
        await model.save(output, { dtype: 'nf4', check: false })
      } finally {
        await model.dispose()
      }
      const again = await loadModel(output)
      expect(again.quantization).toEqual(nf4({ doubleQuant }))
      await again.dispose()
      if (doubleQuant) return
      // The same model, quantised by bitsandbytes.
      const [golden, saved] = [await allTensors(join(parity, 'bnb/smollm2_single')), await allTensors(output)]
      expect([...saved.keys()].sort()).toEqual([...golden.keys()].sort())
      for (const [tensor, bytes] of golden) expect(saved.get(tensor)?.equals(bytes), tensor).toBe(true)
    },
  )

  it('is not saved in NF4 with an adapter, nor when it is held otherwise', async () => {
    const output = join(scratchFolder(), 'saved')
    const plain = await loadModel(join(parity, 'models/smollm2'), { precision: 'fp32' })
    await expect(plain.save(output, { dtype: 'nf4' })).rejects.toThrow('is not held in NF4')
    await plain.dispose()
    const model = await loadModel(join(parity, 'bnb/smollm2_single'), { precision: 'fp32' })
    const adapter = await model.attach(lora({ r: 2 }))
    await expect(adapter.merge(output, { dtype: 'nf4' })).rejects.toThrow(
      'adapters cannot be merged into NF4',
    )
    await model.save(output, { dtype: 'nf4', adapters: [], check: false })
    await model.dispose()
  })
})
