/** Runs measure.mjs and reads what it printed. */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Category } from '../../lib/native/addon.js'

export interface Measured {
  /** Resident before loading, and the peak while loading. */
  before: number
  loadPeak: number
  /** After loading. */
  allocated: Record<Category, number>
  /** Of training; only when a dataset was given. `tokens` is the fullest step's. */
  planned: number
  peak: number
  tokens: number
}

export async function measure(model: string, ...training: string[]): Promise<Measured> {
  const script = fileURLToPath(new URL('./measure.mjs', import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, [script, model, ...training])
  return JSON.parse(stdout) as Measured
}
