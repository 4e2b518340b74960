/** Lines of metrics.jsonl, as runs write them. */
import type { MetricsLine } from '../../../lib/train/records/event-schemas.js'

type Of<Event extends MetricsLine['event']> = Extract<MetricsLine, { event: Event }>
const BEGAN = 1_800_000_000
const MIB = 2 ** 20

export const start: Of<'start'> = {
  ...{
    event: 'start',
    time: BEGAN,
    version: '0.1.0',
    device: 'cpu',
    level: 'avx2',
    threads: 2,
    total_steps: 10,
  },
  model: { name: 'models/SmolLM2-135M', fingerprint: 'ab12'.repeat(16) },
  strategy: { name: 'lora', r: 16, lora_alpha: 32 },
  strategy_label: 'LoRA',
  trainable_parameters: 291_840,
  data: { name: 'train.jsonl', rows: 3000, hash: 'cd34'.repeat(16) },
  evaluation: { name: null, rows: 150, hash: 'ef56'.repeat(16) },
  ...{ config: { learning_rate: 0.001 }, command: 'npx lowrank train run.yaml', resumed_from: null },
}

export const plan: Of<'plan'> = {
  ...{ event: 'plan', time: BEGAN, peak_bytes: 30 * MIB },
  rows: [
    { category: 'weights', bytes: 10 * MIB },
    { category: 'adapters', bytes: 5 * MIB },
    { category: 'activations', bytes: 10 * MIB },
    { category: 'loss', bytes: 5 * MIB },
  ],
}

export function step(step: number, more: Partial<Of<'step'>> = {}): Of<'step'> {
  return {
    ...{ event: 'step', time: BEGAN + step, step, total_steps: 10, epoch: step / 10 },
    ...{ loss: 1 + 6 * Math.exp(-step / 100) + 0.1 * Math.sin(7 * step), grad_norm: 1 + Math.sin(step) ** 2 },
    ...{ learning_rate: 0.001, tokens: 512, supervised_tokens: 128, seconds_left: 1 },
    tokens_per_second: 5000 + 500 * Math.sin(3 * step),
    ...more,
  }
}

export function evaluation(step: number, loss: number, more: Partial<Of<'eval'>> = {}): Of<'eval'> {
  const counts = { perplexity: Math.exp(loss), tokens: 1000, supervised_tokens: 500 }
  return { event: 'eval', time: BEGAN + step, step, loss, ...counts, ...more }
}

export function memory(step: number): Of<'memory'> {
  const allocated = { weights: 10 * MIB, adapters: 5 * MIB, activations: 15 * MIB, loss: 0 }
  return { event: 'memory', time: BEGAN + step, step, allocated, resident_bytes: 140 * MIB }
}

export function done(steps: number): Of<'done'> {
  const rest = { output_dir: 'out', train_loss: 1.5, peak_rss_bytes: 150 * MIB, tokens_per_second: 5000 }
  return { event: 'done', time: BEGAN + steps, steps, ...rest }
}

export function samples(
  ...rows: { prompt?: string; expected?: string; base?: string; tuned?: string }[]
): Of<'samples'> {
  const filled = { prompt: 'Q', system: null, expected: 'A', base: 'B', tuned: 'A', cut: false }
  return { event: 'samples', time: BEGAN, held_out: true, rows: rows.map((row) => ({ ...filled, ...row })) }
}

/** A whole run of so many steps. */
export function wholeRun(steps: number): MetricsLine[] {
  const made = Array.from({ length: steps }, (_, index) => step(index + 1, { total_steps: steps }))
  return [
    { ...start, total_steps: steps },
    plan,
    memory(0),
    evaluation(0, 7),
    ...made,
    memory(steps),
    evaluation(steps, 1.2),
    done(steps),
  ]
}
