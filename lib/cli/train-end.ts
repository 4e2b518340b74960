/** The end of `lowrank train`: sample rows with their answers, the summary, and the command to try next. */
import { shellWord } from '../core/system.js'
import type { Model } from '../model/model.js'
import { rulesOf } from '../strategies/index.js'
import { taskRules } from '../tasks/index.js'
import type { Samples } from '../train/answers/samples.js'
import type { RunConfig } from '../train/config/config.js'
import { savedConfig } from '../train/folders/output-folder.js'
import { lineOf } from '../train/records/metrics-file.js'
import type { TrainingRun } from '../train/run/run.js'
import { type BestReport, evaluatesPrivateData } from '../train/steps/best.js'
import type { DoneEvent } from '../train/steps/events.js'
import { InterruptedError } from './errors.js'
import { counted, digits, shortPath } from './format.js'
import { columnsOf, isScreen } from './live-lines.js'
import type { Output } from './output.js'
import { handingOn } from './privacy.js'
import { shown } from './progress.js'
import { repeatCommand, sampleLines, TOOLS_FLAG, whyNone } from './samples.js'
import { metricText, type TrainProgress } from './train-progress.js'

/** Asks the sample rows. A failure is only noted, since the run is already saved. */
export async function askedShown(
  run: TrainingRun,
  { sampleRows, outputDir }: RunConfig,
  output: Output,
  signal: AbortSignal,
): Promise<Samples | undefined> {
  if (sampleRows === 0) return undefined
  try {
    const samples = await shown(output, 'Asking sample rows', () => run.samples({ signal }))
    const none = whyNone(samples)
    if (none !== undefined) output.note(`note: no rows are shown: ${none}.`)
    return samples
  } catch (error) {
    const why = signal.aborted
      ? `stopped on request. The adapter is saved in ${outputDir}.`
      : (error as Error).message
    output.note(`note: no rows are shown: ${why}`)
    return undefined
  }
}

/** Explains `TOOLS_FLAG`. */
const TOOLS_HINT = 'FILE: the tools of a row as a JSON list'

/** Prints the end of a run. */
export async function conclude(
  done: DoneEvent,
  samples: Samples | undefined,
  model: Model,
  config: RunConfig,
  call: string,
  output: Output,
  progress: TrainProgress,
): Promise<void> {
  const command = samples === undefined ? null : repeatCommand(samples, model.promptFormat, call, shellWord)
  const { heldOut = false, rows = [], classified } = samples ?? {}
  if (rows.length + (classified?.length ?? 0) > 0)
    output.event<'train'>({
      ...{ event: 'samples', held_out: heldOut, rows: [...rows] },
      ...(classified === undefined ? {} : { classified }),
      command,
    })
  if (output.json) {
    output.event<'train'>(lineOf(done))
    return
  }
  const tools = rows.some((row) => row.tools !== undefined)
  const columns = columnsOf(output.stdout)
  const screen = isScreen(output.stdout) && isScreen(output.stderr)
  const text = screen
    ? drawnSummary(done, config, progress, columns, await model.hasChatTemplate(), tools)
    : summary(done, config, command ?? nextCommand(config, call, false))
  const lines = samples === undefined ? [] : sampleLines(samples, columns)
  const again = screen && command !== null ? ['', '  To repeat this answer:', `  ${command}`] : []
  output.answer<'train'>(lineOf(done), () =>
    [
      ...(screen && !progress.spaced ? [''] : []),
      ...lines,
      ...again,
      ...(lines.length > 0 ? [''] : []),
      text,
    ].join('\n'),
  )
}

/** Summary of a run on a terminal; its last line is the command to try next. */
function drawnSummary(
  event: DoneEvent,
  config: RunConfig,
  progress: TrainProgress,
  columns: number,
  chats: boolean,
  tools: boolean,
): string {
  const { steps, tokensPerSecond, peakRssBytes: peakBytes, privacy, best } = event
  const { outputDir, strategy } = config
  const folder = shortPath(outputDir)
  const saved = shellWord(shortPath(savedConfig(config)))
  const what = rulesOf(strategy).saves ?? 'adapter'
  return [
    progress.closing(steps, tokensPerSecond, peakBytes, columns),
    ...(privacy ? [privacy.promise, handingOn(config)] : []),
    ...(best ? ['', `  ${bestLine(best, config)}`] : []),
    '',
    `  ${what === 'model' ? 'Model   ' : 'Adapter '}  ${folder}`,
    `  Try it    ${nextCommand(config, saved, chats)}${chats && tools ? ` ${TOOLS_FLAG}` : ''}`,
    ...(tools ? [`            ${TOOLS_HINT}`] : []),
  ].join('\n')
}

/** @param call the config and its overrides, as on a command line */
function nextCommand({ task }: RunConfig, call: string, chats: boolean): string {
  if (taskRules(task).classes) {
    return `npx lowrank classify ${call} --text "…"`
  }
  return `npx lowrank ${chats ? `chat ${call}` : `generate ${call} --prompt "Hello"`}`
}

function summary(event: DoneEvent, config: RunConfig, command: string): string {
  const { strategy, earlyStoppingPatience } = config
  const what = rulesOf(strategy).saves ?? 'adapter'
  const early = event.stoppedEarly
    ? ` (stopped early: no improvement in ${counted(earlyStoppingPatience ?? 0, 'evaluation')})`
    : ''
  return [
    `${counted(event.steps, 'step')}${early}, mean loss ${event.trainLoss.toFixed(4)}, ${digits(event.tokensPerSecond)} tokens/s`,
    ...(event.best ? [bestLine(event.best, config)] : []),
    ...(event.privacy ? [event.privacy.promise, handingOn(config)] : []),
    `The ${what} is in ${event.outputDir}. Try it:`,
    `  ${command}`,
    ...(command.includes(TOOLS_FLAG) ? [`  ${TOOLS_HINT}`] : []),
  ].join('\n')
}

/** The selected step and the reason. */
export function bestLine(best: BestReport, config: RunConfig): string {
  const what = rulesOf(config.strategy).saves ?? 'adapter'
  const value = metricText(best.metric, best.value)
  if (best.step === best.lastStep) return `Step ${best.step}, the last, is the best: held-out ${value}.`
  const name = best.step === 0 ? 'Step 0, the start,' : `Step ${best.step}`
  const last = `step ${best.lastStep} had ${metricText(best.metric, best.lastValue)}`
  const advice = evaluatesPrivateData(config)
    ? 'a choice based on private rows would reveal information about them'
    : 'load_best_model_at_end: true keeps the best'
  const chosen =
    best.keptStep === best.step
      ? `The ${what} is that of step ${best.step}.`
      : `The ${what} is that of step ${best.keptStep}; ${advice}.`
  return `${name} is the best: held-out ${value}; ${last}. ${chosen}`
}

export function stopped(run: TrainingRun, call: string): InterruptedError {
  const step = run.latest?.step ?? 0
  const checkpoint = run.checkpoints.at(-1)
  if (checkpoint === undefined)
    return new InterruptedError('stopped before the first new step; nothing was saved.', {
      step,
      checkpoint: null,
    })
  const resume = `npx lowrank train ${call} --resume`
  return new InterruptedError(
    `stopped after step ${step}; ${shortPath(checkpoint)} is saved. Resume with:\n  ${resume}`,
    {
      step,
      checkpoint,
      resume,
    },
  )
}
