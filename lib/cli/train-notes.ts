/** Notes of `lowrank train` before the first step: memory, data, privacy, and time. */
import { formatBytes } from '../core/bytes.js'
import type { Model } from '../model/model.js'
import { addon } from '../native/addon.js'
import { portableKernels, thisProcessor } from '../native/level.js'
import type { MemoryReport } from '../planning/memory-report.js'
import { type MemorySettings, memoryAdvice } from '../planning/room.js'
import type { PrivacyReport } from '../strategies/privacy-report.js'
import { taskRules } from '../tasks/index.js'
import type { RunConfig } from '../train/config/config.js'
import type { TrainingRun } from '../train/run/run.js'
import { sharesData } from '../train/steps/best.js'
import { classesText, counted, formatCount } from './format.js'
import type { Output } from './output.js'
import { privacyLines } from './privacy.js'
import { StatusLine } from './progress.js'
import { timeData, timeText } from './time.js'
import { TimeCheck } from './time-check.js'
import type { PlannedMemory, TrainProgress } from './train-progress.js'

export function notePaging(
  { optimizer, strategy }: RunConfig,
  { options }: TrainingRun,
  { device }: Model,
  output: Output,
): void {
  if (optimizer !== null || typeof options.optimizer === 'string' || !('resident' in options.optimizer))
    return
  const { type, resident } = options.optimizer
  output.note(
    `note: ${strategy.name} pages the optimizer state, which does not fit in memory: ${type} with ${resident} in memory and the rest ${device === 'cpu' ? 'in a file in output_dir' : 'in pinned memory'}. The results are the same. optimizer: adamw keeps it in memory.`,
  )
}

/** The planned memory of a run, and whether it is on a GPU. */
export function plannedOn({ device }: Model, { memory }: TrainingRun): PlannedMemory {
  const { peakBytes, pinnedBytes } = memory
  return { peakBytes, pinnedBytes, onCard: device !== 'cpu' }
}

export function noteContext({ maxSeqLength }: RunConfig, { config }: Model, output: Output): void {
  const context = config.max_position_embeddings
  if (typeof context === 'number' && maxSeqLength > context)
    output.note(
      `warning: max_seq_length is ${formatCount(maxSeqLength)}, but the model was trained on at most ${formatCount(context)} tokens; longer rows are of little use.`,
    )
}

/** Warns if the CPU computes with the portable kernels. */
export function noteKernels({ device }: Model, output: Output): void {
  const slow = device === 'cpu' ? portableKernels(addon().cpu().isa, thisProcessor()) : undefined
  if (slow) output.note(`warning: ${slow}.`)
}

/** Warns if training needs more host memory than is available. */
export function noteShortage(
  memory: MemoryReport,
  model: Model,
  settings: MemorySettings,
  output: Output,
): void {
  const held = model.memory
  const bytes =
    model.device === 'cpu' ? memory.peakBytes - held.peakBytes : memory.pinnedBytes - held.pinnedBytes
  const available = process.availableMemory()
  if (bytes > available)
    output.note(
      `warning: this run needs ${formatBytes(bytes)} more, and ${formatBytes(available)} are free. ${memoryAdvice(memory, settings)}`,
    )
}

export function noteTemplate({ chatTemplate }: RunConfig, output: Output): void {
  if (typeof chatTemplate === 'string')
    output.note(`Chat template: ${chatTemplate}, in training and afterward.`)
  else if (!chatTemplate)
    output.note(
      'note: chat_template is false: prompts and completions are raw text, in training and afterward.',
    )
}

/** Warns of held-out data that is trained on. */
export function noteHeldOut({ dataset, evalDataset }: RunConfig, output: Output): void {
  if (evalDataset !== null && sharesData(dataset, evalDataset))
    output.note(
      'warning: eval_dataset has data that is trained on, so evaluations do not show how the model does on other data; name other files, or hold out a share of dataset with eval_fraction.',
    )
}

/** Prints the estimated time of the steps, after measuring it if the setting is new to this machine. */
export async function noteTime(
  run: TrainingRun,
  output: Output,
  progress: TrainProgress,
  signal: AbortSignal,
): Promise<void> {
  let line: StatusLine | undefined
  const onMeasure = () => {
    line = new StatusLine(output, 'Measuring the speed of this machine, once')
    line.update('')
  }
  const time = await run.time({ signal, onMeasure }).finally(() => line?.clear())
  if ('unknown' in time) return
  progress.note(`Time: ${timeText(time)}.`)
  progress.timeCheck = new TimeCheck(time)
  output.event<'train'>({ event: 'time', ...timeData(time) })
}

export function noteData({ data, promptFormat, options }: TrainingRun, progress: TrainProgress): void {
  if (data === undefined) return
  const family = promptFormat?.trainingTemplate
  const perAnswer = options.reasoningHistory === 'drop'
  if (perAnswer)
    progress.note('Every answer of a chat is an example, without the reasoning of earlier turns.')
  else if (family !== undefined)
    progress.note(
      `Chats are rendered with lowrank's training template of ${family}; training_template: own uses the one of the model.`,
    )
  if (data.train === null) {
    progress.note('Rows are read during the run.')
    return
  }
  const {
    rows,
    examples,
    dropped,
    droppedByTruncation,
    truncated,
    tokens,
    supervisedTokens,
    emptyTurns,
    classes,
    remarks,
  } = data.train
  const { classes: isClassifier, samplesAnswers } = taskRules(options.task)
  const role = samplesAnswers ? 'in expected answers' : 'trained on'
  progress.note(
    `${counted(rows, 'row')}, ${perAnswer ? `${counted(examples, 'answer')}, ` : ''}${counted(tokens, 'token')}, ${formatCount(supervisedTokens)} of them ${role}.`,
  )
  if (classes.length > 0)
    progress.note(`${isClassifier ? 'Classes' : 'Different completions'}: ${classesText(classes)}.`)
  if (truncated > 0) progress.note(`Truncated at max_seq_length: ${counted(truncated, 'row')}.`)
  if (dropped > 0) {
    const cut = droppedByTruncation > 0 ? ` (${formatCount(droppedByTruncation)} by truncation)` : ''
    progress.note(`Dropped, because nothing in them is trained on: ${counted(dropped, 'row')}${cut}.`)
  }
  if (emptyTurns > 0)
    progress.note(`Not trained on, because they are empty: ${counted(emptyTurns, 'assistant turn')}.`)
  for (const remark of remarks) progress.note(`warning: ${remark}.`)
}

/** @param remarks warnings about the guarantee and its noise */
export function notePrivacy(
  privacy: PrivacyReport,
  remarks: readonly string[],
  progress: TrainProgress,
): void {
  for (const line of privacyLines(privacy, remarks)) progress.note(line)
}
