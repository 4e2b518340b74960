/**
 * Event files for TensorBoard: scalars of a run under the names that transformers uses. A file is a sequence of
 * records, each a protobuf message with checksums (tensorflow/core/lib/io/record_writer.h, event.proto,
 * summary.proto).
 */
import { readdir } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { makeFolder } from '../../io/atomic-folder.js'
import { GrowingFile } from '../../io/growing-file.js'
import type { TrainEvent } from '../steps/events.js'
import type { MetricsLine } from './event-schemas.js'
import { lineOf, readMetrics } from './metrics-file.js'

/** Programs that a run's events can be written for, in addition to metrics.jsonl. */
export const REPORT_TO = ['none', 'tensorboard'] as const
export type ReportTo = (typeof REPORT_TO)[number]

/** Folder of event files in the run's folder. */
const FOLDER = 'runs'

/** A tagged value of a step. */
type Scalar = readonly [tag: string, value: number]

/** Writes the events of a run to a TensorBoard event file. */
export class TensorboardFile {
  readonly #file: GrowingFile

  private constructor(file: GrowingFile) {
    this.#file = file
  }

  /**
   * Opens a new file in `runDir/runs/<time>_<host>`.
   * @param resumed true to continue in the newest folder: the new file starts with the lines kept in
   * metrics.jsonl, and readers discard earlier files
   */
  static async open(runDir: string, resumed: boolean): Promise<TensorboardFile> {
    const now = Date.now()
    const host = hostname().replace(/[^\w.-]/g, '-') || 'host'
    const folder = await folderOf(join(runDir, FOLDER), now, host, resumed)
    const seconds = String(Math.floor(now / 1000)).padStart(10, '0')
    const path = join(folder, `events.out.tfevents.${seconds}.${host}.${process.pid}.${now % 1000}`)
    const file = new TensorboardFile(await GrowingFile.open(path))
    const time = wallTime(now / 1000)
    await file.#file.append(record([...time, ...bytesField(3, utf8('brain.Event:2'))]))
    if (resumed) {
      const [SESSION_LOG, START] = [7, 1]
      await file.#file.append(
        record([...time, ...intField(2, 0), ...bytesField(SESSION_LOG, intField(1, START))]),
      )
      for (const line of await readMetrics(runDir)) await file.#tell(line)
    }
    return file
  }

  /** @throws {WriteError} when writing fails */
  async append(event: TrainEvent): Promise<void> {
    await this.#tell(lineOf(event))
  }

  async #tell(line: MetricsLine): Promise<void> {
    const message = messageOf(line)
    if (message !== null) await this.#file.append(record(message))
  }

  async close(): Promise<void> {
    await this.#file.close()
  }
}

/** The newest folder for a resumed run, else a new one. */
async function folderOf(runs: string, now: number, host: string, resumed: boolean): Promise<string> {
  const names = resumed ? await readdir(runs).catch((): string[] => []) : []
  const started = new Date(now).toISOString().slice(0, 19).replace('T', '_').replaceAll(':', '-')
  const folder = join(runs, names.sort().at(-1) ?? `${started}_${host}`)
  await makeFolder(folder)
  return folder
}

/** Converts a line of the run's record to a message; null if it has nothing to plot. */
function messageOf(line: MetricsLine): number[] | null {
  if (line.event === 'start') {
    const config = JSON.stringify({ ...line.config, strategy: line.strategy }, null, 2)
    return summary(line.time, 0, [textValue('config', `\`\`\`json\n${config}\n\`\`\``)])
  }
  const scalars = scalarsOf(line)
  if (scalars.length === 0 || !('step' in line)) return null
  return summary(
    line.time,
    line.step,
    scalars.map(([tag, value]) => [...bytesField(1, utf8(tag)), ...floatField(2, value)]),
  )
}

/** Numeric fields that are not plotted. */
const NOT_DRAWN = new Set(['time', 'step', 'total_steps', 'tokens', 'supervised_tokens', 'seconds_left'])

function scalarsOf(line: MetricsLine): Scalar[] {
  if (line.event === 'memory')
    return [...Object.entries(line.allocated), ['resident', line.resident_bytes] as const].map(
      ([category, bytes]) => [`memory/${category}`, bytes],
    )
  if (line.event !== 'step' && line.event !== 'eval') return []
  const group = line.event === 'step' ? 'train' : 'eval'
  const own = line.event === 'eval' ? Object.entries(line.scores ?? {}) : []
  const rewards = line.event === 'step' ? Object.entries(line.rewards ?? {}) : []
  const named = Object.entries(line).flatMap(([key, value]): Scalar[] =>
    typeof value === 'number' && !NOT_DRAWN.has(key)
      ? [[`${group}/${key.replace(/^(rewards|logps)_/, '$1/')}`, value]]
      : [],
  )
  return [
    ...named,
    ...own.map(([name, value]): Scalar => [`eval/${name}`, value]),
    ...rewards.map(([name, value]): Scalar => [`train/rewards/${name}`, value]),
  ]
}

/** A summary event with some values at a step. */
function summary(time: number, step: number, values: readonly (readonly number[])[]): number[] {
  const list = values.flatMap((value) => bytesField(1, value))
  return [...wallTime(time), ...intField(2, step), ...bytesField(5, list)]
}

/** A value for TensorBoard's text plugin: a tensor of one string. */
function textValue(tag: string, words: string): number[] {
  const [STRING, tensorShape] = [7, bytesField(2, intField(1, 1))]
  const tensor = [...intField(1, STRING), ...bytesField(2, tensorShape), ...bytesField(8, utf8(words))]
  const metadata = bytesField(1, bytesField(1, utf8('text')))
  return [...bytesField(1, utf8(`${tag}/text_summary`)), ...bytesField(8, tensor), ...bytesField(9, metadata)]
}

function wallTime(seconds: number): number[] {
  return [0x09, ...new Uint8Array(new Float64Array([seconds]).buffer)]
}

function intField(field: number, value: number): number[] {
  return [field << 3, ...varint(value)]
}

function floatField(field: number, value: number): number[] {
  return [(field << 3) | 5, ...new Uint8Array(new Float32Array([value]).buffer)]
}

function bytesField(field: number, bytes: readonly number[]): number[] {
  return [(field << 3) | 2, ...varint(bytes.length), ...bytes]
}

function varint(value: number): number[] {
  const bytes: number[] = []
  let rest = value
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128)
  return [...bytes, rest]
}

function utf8(words: string): number[] {
  return [...Buffer.from(words, 'utf8')]
}

/** Frames a message with its length and checksums of both. */
export function record(message: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(message.length + 16)
  const view = new DataView(bytes.buffer)
  view.setBigUint64(0, BigInt(message.length), true)
  view.setUint32(8, masked(crc32c(bytes.subarray(0, 8))), true)
  bytes.set(message, 12)
  view.setUint32(12 + message.length, masked(crc32c(bytes.subarray(12, 12 + message.length))), true)
  return bytes
}

/** Table of CRC-32C (Castagnoli), reflected; Node's `crc32` uses another polynomial. */
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1
  return crc
})

export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff
  for (const byte of bytes) crc = (crc >>> 8) ^ (TABLE[(crc ^ byte) & 0xff] as number)
  return (crc ^ 0xffffffff) >>> 0
}

export function masked(crc: number): number {
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0
}
