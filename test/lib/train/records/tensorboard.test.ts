/** Event files for TensorBoard, decoded here by the description of their format; TensorBoard reads them in test/real. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { loadModel } from '../../../../lib/model/load.js'
import { lora } from '../../../../lib/strategies/lora.js'
import { readMetrics } from '../../../../lib/train/records/metrics-file.js'
import { crc32c, masked, record } from '../../../../lib/train/records/tensorboard.js'
import { chats, tinyModel } from '../../../e2e/tiny-model.js'
import { scratchFile, scratchFolder } from '../../scratch.js'

const folder = tinyModel()
const data = scratchFile('train.jsonl', chats(40))

type Message = Map<number, (number | Buffer)[]>

/** Fields of a protobuf message. */
function fields(bytes: Buffer): Message {
  const found: Message = new Map()
  let at = 0
  const varint = () => {
    for (let [value, unit] = [0, 1]; ; unit *= 128) {
      const byte = bytes[at++] as number
      value += (byte & 127) * unit
      if (byte < 128) return value
    }
  }
  while (at < bytes.length) {
    const key = varint()
    const [field, wire] = [key >> 3, key & 7]
    const length = wire === 1 ? 8 : wire === 5 ? 4 : wire === 2 ? varint() : 0
    const value =
      wire === 0
        ? varint()
        : wire === 1
          ? bytes.readDoubleLE(at)
          : wire === 5
            ? bytes.readFloatLE(at)
            : bytes.subarray(at, at + length)
    at += length
    found.set(field, [...(found.get(field) ?? []), value])
  }
  return found
}

/** Messages of a file, whose checksums must hold. */
function messages(path: string): Message[] {
  const bytes = readFileSync(path)
  const found: Message[] = []
  for (let at = 0; at < bytes.length; ) {
    const length = Number(bytes.readBigUInt64LE(at))
    expect(bytes.readUInt32LE(at + 8)).toBe(masked(crc32c(bytes.subarray(at, at + 8))))
    const message = bytes.subarray(at + 12, at + 12 + length)
    expect(bytes.readUInt32LE(at + 12 + length)).toBe(masked(crc32c(message)))
    found.push(fields(message))
    at += length + 16
  }
  return found
}

/** Values of a file by tag: [step, value]. */
function scalars(path: string): Map<string, [number, number][]> {
  const found = new Map<string, [number, number][]>()
  for (const message of messages(path))
    for (const summary of (message.get(5) ?? []) as Buffer[])
      for (const value of fields(summary).get(1) as Buffer[]) {
        const one = fields(value)
        if (!one.has(2)) continue
        const tag = String(one.get(1)?.[0])
        found.set(tag, [
          ...(found.get(tag) ?? []),
          [message.get(2)?.[0] as number, one.get(2)?.[0] as number],
        ])
      }
  return found
}

async function train(options: object): Promise<void> {
  const model = await loadModel(folder, { precision: 'fp32' })
  try {
    const adapter = await model.attach(lora({ r: 4 }), { seed: 1 })
    const shape = { maxSeqLength: 64, perDeviceTrainBatchSize: 2, learningRate: 0.01, report: false }
    for await (const { step } of adapter.train(data, { ...shape, reportTo: 'tensorboard', ...options }))
      if (step === 9 && !('resume' in options)) break
  } finally {
    await model.dispose()
  }
}

test('records are framed by checksums, as the format has them', () => {
  expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283)
  expect(masked(0xe3069283)).toBe(0xc78ab0e5)
  const message = Buffer.from('09000000c00b5ad6411a0d627261696e2e4576656e743a32', 'hex')
  expect(Buffer.from(record([...message])).toString('hex')).toBe(
    `1800000000000000a37f4b22${message.toString('hex')}4ca9a464`,
  )
})

test('the numbers of a run are those of its record, and a resumed run has those of all its steps', async () => {
  const outputDir = scratchFolder()
  const metricForBestModel = { name: 'words', score: () => 3 }
  const control = {
    maxSteps: 12,
    saveSteps: 4,
    evalSteps: 4,
    evalFraction: 0.2,
    outputDir,
    metricForBestModel,
  }
  await train(control)
  const [runs] = readdirSync(join(outputDir, 'runs'))
  const place = join(outputDir, 'runs', runs as string)
  const [first] = readdirSync(place)
  const lines = await readMetrics(outputDir)
  const found = scalars(join(place, first as string))
  const close = (value: number) => expect.closeTo(value, 4)
  const steps = lines.flatMap((line) => (line.event === 'step' ? [line] : []))
  expect(found.get('train/loss')).toEqual(steps.map(({ step, loss }) => [step, close(loss as number)]))
  expect(found.get('train/grad_norm')).toEqual(steps.map(({ step, grad_norm }) => [step, close(grad_norm)]))
  const evaluations = lines.flatMap((line) => (line.event === 'eval' ? [line] : []))
  expect(found.get('eval/loss')).toEqual(evaluations.map(({ step, loss }) => [step, close(loss as number)]))
  expect(found.get('eval/words')).toEqual(evaluations.map(({ step }) => [step, 3]))
  expect([...found.keys()]).toEqual(
    expect.arrayContaining(['train/learning_rate', 'train/epoch', 'memory/weights', 'memory/resident']),
  )
  expect([...found.keys()]).not.toContain('train/tokens')
  const config = messages(join(place, first as string))[1]?.get(5)?.[0]
  expect(String(config)).toContain('"learning_rate": 0.01')

  await train({ ...control, resume: true })
  const second = readdirSync(place).find((name) => name !== first) as string
  expect(readdirSync(join(outputDir, 'runs'))).toEqual([runs])
  const [, start] = messages(join(place, second))
  expect(start?.get(2)).toEqual([0])
  expect(fields(start?.get(7)?.[0] as Buffer).get(1)).toEqual([1])
  const again = scalars(join(place, second))
  expect(again.get('train/loss')?.map(([step]) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
  expect(again.get('eval/loss')?.map(([step]) => step)).toEqual([0, 4, 8, 12])
})

test('a run that writes nothing has no place for them', async () => {
  await expect(train({ maxSteps: 1 })).rejects.toThrow(
    'train(): reportTo is tensorboard, but the run has no outputDir to write to.',
  )
})
