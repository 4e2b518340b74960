/** Reads the record of a finished run from its folder: its configuration, and the losses in its log. */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ConfigError, FileFormatError } from '../core/errors.js'
import { rulesOf } from '../strategies/index.js'
import { loadConfig, type RunConfig } from '../train/config/config.js'
import { foldersAt } from '../train/folders/output-folder.js'
import type { MetricsLine } from '../train/records/event-schemas.js'

/** An evaluation during a run. */
export interface RunEvaluationPoint {
  step: number
  loss: number
  exact_match?: number
}

/** The configuration, losses, and state of a run. */
export interface RunRecord {
  /** The folder as the user specified it. */
  folder: string
  outputDir: string
  /** null: the run was started through the API, which records no configuration. */
  config: RunConfig | null
  /** Training loss by step; null for a private round in which no client was sampled. */
  curve: [step: number, loss: number | null][]
  evaluations: RunEvaluationPoint[]
  ended: boolean
  /** Mean training loss; null while the run has not ended. */
  trainLoss: number | null
  /** Step of the kept adapter, if an earlier one than the last was the best; otherwise null. */
  keptStep: number | null
}

/**
 * Reads the record of a run.
 * @param folder its output folder
 * @throws {ConfigError} for a folder that holds no run
 */
export async function readRunRecord(folder: string): Promise<RunRecord> {
  if (!existsSync(folder))
    throw new ConfigError(`${folder} does not exist; expected the output folder of a run.`, { folder })
  const { outputDir, runDir } = foldersAt(folder)
  const log = join(runDir, 'metrics.jsonl')
  if (!existsSync(log))
    throw new ConfigError(
      `${folder} is not the output folder of a run: it has no metrics.jsonl. Name a folder that \`lowrank train\` wrote (output_dir).`,
      { folder },
    )
  const saved = join(runDir, 'config.yaml')
  const config = existsSync(saved) ? await loadConfig(saved) : null
  return { folder, outputDir, config, ...readLog(log, await readFile(log, 'utf8')) }
}

type Logged = Pick<RunRecord, 'curve' | 'evaluations' | 'ended' | 'trainLoss' | 'keptStep'>

function readLog(path: string, text: string): Logged {
  const losses = new Map<number, number | null>()
  const evaluations = new Map<number, RunEvaluationPoint>()
  const found: Logged = { curve: [], evaluations: [], ended: false, trainLoss: null, keptStep: null }
  const lines = text.split('\n')
  for (const [index, line] of lines.entries()) {
    if (line === '') continue
    const event = parsed(line)
    // A killed run may leave an incomplete last line.
    if (event === undefined && index >= lines.length - 2) continue
    if (event === undefined)
      throw new FileFormatError(`${path}, line ${index + 1} is not JSON; restore the file.`, {
        path,
        line: index + 1,
      })
    found.ended = event.event === 'done'
    // If a step was repeated after a resume, the last value wins.
    if (event.event === 'step') losses.set(event.step, event.loss)
    if (event.event === 'eval') {
      const { step, loss: told, exact_match } = event
      const loss = told ?? Number.NaN
      evaluations.set(step, { step, loss, ...(exact_match === undefined ? {} : { exact_match }) })
    }
    if (event.event === 'done') {
      found.trainLoss = event.train_loss
      found.keptStep = event.best?.kept_step ?? null
    }
  }
  const ascending = (a: { step: number }, b: { step: number }) => a.step - b.step
  found.curve = [...losses].sort(([a], [b]) => a - b)
  found.evaluations = [...evaluations.values()].sort(ascending)
  return found
}

function parsed(line: string): MetricsLine | undefined {
  try {
    return JSON.parse(line) as MetricsLine
  } catch {
    return undefined
  }
}

/** Explains in a sentence why a run cannot be evaluated again; undefined if it can. */
export function lackOf({ config, folder, outputDir }: RunRecord): string | undefined {
  if (config === null)
    return `${folder} has no config.yaml, since a program made the run; items cannot be evaluated again`
  const [file, what] =
    rulesOf(config.strategy).saves === 'model' ? ['config.json', 'model'] : ['adapter_config.json', 'adapter']
  if (!existsSync(join(outputDir, file))) return `${folder} has no ${what}: the run has not finished`
  if (config.evalDataset === null && config.evalFraction === 0)
    return `${folder} has no held-out data (eval_dataset or eval_fraction); name some with --dataset`
  return undefined
}
