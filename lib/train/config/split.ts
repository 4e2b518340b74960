/** Checks the configs of runs whose layers are split over ranks. */
import { UnsupportedError } from '../../core/errors.js'
import { isOfAnswers } from '../../options/task.js'
import { checkStrategy } from '../../strategies/part.js'
import { taskRules } from '../../tasks/index.js'
import type { RunConfig } from './config.js'

/** @throws {UnsupportedError} for a run by layers that needs all of them on one rank */
export function checkSplit(config: RunConfig): void {
  if (config.split === 'rows') return
  checkStrategy(config.strategy)
  const { task, learningRate, metricForBestModel, evalGenerate, device, optimizerInBackward } = config
  const onCpus = 'whose ranks compute on CPUs'
  const inParts = 'where no rank has the whole model'
  const unsupported: [is: boolean, what: string, why: string][] = [
    [!taskRules(task).runs.byLayers, `task ${task}`, inParts],
    [learningRate === 'auto', 'learning_rate auto', inParts],
    [isOfAnswers(task, metricForBestModel), 'a metric_for_best_model of answers', inParts],
    [evalGenerate > 0, 'eval_generate', inParts],
    [optimizerInBackward, 'optimizer_in_backward', 'which updates the adapter after the passes of all ranks'],
    [device.startsWith('cuda'), `device ${device}`, onCpus],
  ]
  for (const [is, what, why] of unsupported)
    if (is)
      throw new UnsupportedError(`${what} does not go with split: layers, ${why}. Use split: rows.`, { what })
}

/** @throws {UnsupportedError} for a command that needs the whole model on each rank */
export function refuseLayers(command: string, { split }: Pick<RunConfig, 'split'>): void {
  if (split === 'rows') return
  throw new UnsupportedError(
    `${command} on several ranks needs the whole model on each, and split is layers; start it without mpirun, or with --set split=rows.`,
    { command },
  )
}

/** The config of a rank: with layers split, it computes on the CPU and answers no sample rows after the run. */
export function onSplit(config: RunConfig): RunConfig {
  return config.split === 'rows' ? config : { ...config, device: 'cpu', sampleRows: 0 }
}
