/**
 * Text of a model card, in the form that the Hugging Face hub reads: base, data, settings, results, limits, and how to
 * load the adapter. It is made of what the run records; of private training it says only what may be shared.
 */
import { basename } from 'node:path'
import { type AdapterState, type BaseModel, savesModel } from '../../base/base.js'
import type { RunOptions } from '../../options/options.js'
import { CARD_MARK } from '../../peft/model-card.js'
import { isPrivate } from '../../strategies/index.js'
import { taskRules } from '../../tasks/index.js'
import { describeQuantization } from '../../weights/quantization.js'
import { bestReport, type RunEvaluation } from '../steps/best.js'
import type { StartEvent } from '../steps/events.js'

/** What a run records, for its card. */
export interface CardRun {
  start: StartEvent
  options: RunOptions
  /** Optimizer steps made. */
  steps: number
  evaluations: readonly RunEvaluation[]
}

/** @param run the training; null if it was not made by a run, such as a custom loop */
export async function cardText(base: BaseModel, adapter: AdapterState, run: CardRun | null): Promise<string> {
  const { stringify } = await import('yaml')
  const shared = adapter.privacy.length > 0 || isPrivate(strategyOf(adapter)) ? null : run
  const title = `${basename(base.name)}, ${savesModel(adapter.description) ? 'fine-tuned' : `${strategyOf(adapter).name} adapter`}`
  const sections = [
    `---\n${stringify(metadata(base, adapter, shared), { lineWidth: 0 })}---`,
    `# ${title}`,
    CARD_MARK,
    introduction(base, adapter),
    ...(shared === null ? [] : [dataSection(shared), settings(shared, stringify), results(shared)]),
    privacySection(adapter),
    limits(base, adapter, shared),
    loading(base, adapter),
  ]
  return `${sections.filter((section) => section !== '').join('\n\n')}\n`
}

const strategyOf = ({ whole, description }: AdapterState) => (whole ?? description).strategy

/** Front matter. Local paths are no names on the hub, which would refuse them as `base_model`. */
function metadata(base: BaseModel, adapter: AdapterState, run: CardRun | null): Record<string, unknown> {
  const whole = savesModel(adapter.description)
  const { name } = strategyOf(adapter)
  const onHub = base.revision !== null
  const data = run === null ? {} : { data_sha256: run.start.data.hash, data_rows: run.start.data.rows }
  return {
    ...(onHub ? { base_model: base.name } : {}),
    library_name: whole ? 'transformers' : 'peft',
    pipeline_tag: base.labels === null ? 'text-generation' : 'text-classification',
    tags: [...(onHub && !whole ? [`base_model:adapter:${base.name}`] : []), 'lowrank', name],
    ...data,
  }
}

function introduction(base: BaseModel, adapter: AdapterState): string {
  const { name } = strategyOf(adapter)
  const model = code(base.revision === null ? basename(base.name) : base.name)
  const revision = base.revision === null ? '' : ` at commit \`${base.revision}\``
  const does =
    base.labels === null ? '' : ` It tells these classes of texts apart: ${base.labels.map(code).join(', ')}.`
  return `Trained with [lowrank](https://www.npmjs.com/package/lowrank) (${name}) on ${model}${revision}, whose files have the hash \`${base.files.fingerprint}\`.${does}`
}

function dataSection({ start: { data, evaluation } }: CardRun): string {
  const lines = [
    `- Training: ${rowsOf(data.rows)}${fileOf(data.name)}, SHA-256 of the tokens \`${data.hash}\``,
    evaluation === null
      ? '- Held out: nothing'
      : `- Held out: ${rowsOf(evaluation.rows)}${evaluation.name === null ? ' of the same data' : fileOf(evaluation.name)}, SHA-256 of the tokens \`${evaluation.hash}\``,
  ]
  return `## Data\n\n${lines.join('\n')}`
}

/** Text as code, on one line. */
const code = (text: string): string => `\`${text.replaceAll('`', "'").replaceAll('\n', ' ')}\``

const rowsOf = (rows: number | null): string =>
  rows === null ? 'a stream of rows' : `${rows.toLocaleString('en-US')} row${rows === 1 ? '' : 's'}`

/** Names of files without their folders, which tell of the author's machine. */
const fileOf = (name: string | null): string =>
  name === null
    ? ''
    : ` of ${name
        .split(', ')
        .map((path) => code(basename(path)))
        .join(', ')}`

function settings({ start, steps }: CardRun, stringify: (value: unknown) => string): string {
  const { version, trainableParameters, device, strategy, config } = start
  // Paths of modules tell of the author's machine.
  const { reward_functions: _, chat_template: __, ...shown } = config
  return `## Settings\n\n${steps.toLocaleString('en-US')} steps of ${trainableParameters.toLocaleString('en-US')} trainable parameters, with lowrank ${version} on ${device}. Settings that are not the default:\n\n\`\`\`yaml\n${stringify({ strategy, ...shown })}\`\`\``
}

/** Columns of the table of results: those that were measured. */
const METRICS: readonly [key: keyof RunEvaluation, title: string][] = [
  ['loss', 'loss'],
  ['perplexity', 'perplexity'],
  ['accuracy', 'accuracy'],
  ['meanTokenAccuracy', 'mean token accuracy'],
  ['macroF1', 'macro F1'],
  ['matthewsCorrelation', 'Matthews correlation'],
  ['exactMatch', 'exact match'],
  ['f1', 'word F1'],
  ['rewardsAccuracies', 'preferred'],
  ['rewardsMargins', 'reward margin'],
  ['reward', 'reward'],
]

function results({ evaluations, options, steps }: CardRun): string {
  const [first, last] = [evaluations[0], evaluations.at(-1)]
  if (first === undefined || last === undefined) return ''
  const report = bestReport(evaluations, options, steps)
  const best = evaluations.find(({ step }) => step === report?.step) ?? last
  const ofTokens = taskRules(options.task).evaluation.metrics.includes('perplexity')
  // Prompts without answers have no loss.
  const unmeasured = (key: keyof RunEvaluation) =>
    last.supervisedTokens === 0 ? key === 'loss' || key === 'perplexity' : key === 'perplexity' && !ofTokens
  const columns = METRICS.filter(([key]) => typeof last[key] === 'number' && !unmeasured(key))
  const row = (name: string, evaluation: RunEvaluation) =>
    `| ${[name, ...columns.map(([key]) => Number((evaluation[key] as number).toPrecision(4)))].join(' | ')} |`
  const kept = report?.keptStep ?? steps
  const shown = new Map<number, string>([
    [first.step, row('before training', first)],
    [best.step, row(`step ${best.step}, the best by ${report?.metric ?? 'loss'}`, best)],
    ...(last.step === best.step ? [] : [[last.step, row(`step ${last.step}, the last`, last)] as const]),
  ])
  const head = `| held-out rows | ${columns.map(([, title]) => title).join(' | ')} |\n| --- |${' --: |'.repeat(columns.length)}`
  return `## Results\n\n${[head, ...shown.values()].join('\n')}\n\nThis is the adapter of step ${kept}.`
}

function privacySection({ privacy }: AdapterState): string {
  if (privacy.length === 0) return ''
  return `## Privacy\n\n${privacy.map(({ promise }) => `- ${promise}`).join('\n')}`
}

function limits(base: BaseModel, adapter: AdapterState, run: CardRun | null): string {
  const length = run?.options.maxSeqLength
  const format = adapter.format === 'unrecorded' ? null : adapter.format
  const prompted =
    base.labels !== null || format === null
      ? ''
      : format.form === 'chat'
        ? `- It was trained on prompts in the chat template${format.system ? ` with the system prompt ${JSON.stringify(format.system)}` : ''}; others may be answered worse.`
        : '- It was trained on raw text, without a chat template.'
  const lines = [
    run === null
      ? '- Its training is not recorded here.'
      : run.evaluations.length === 0
        ? '- No rows were held out, so nothing here says how well it answers others.'
        : '- It was measured on the held-out rows above, and on nothing else.',
    length === undefined ? '' : `- It was trained on at most ${length} tokens at a time.`,
    prompted,
    base.quantization.type === 'none'
      ? ''
      : `- The base was held in ${describeQuantization(base.quantization)} in training; over other weights, results differ a little.`,
    '- It has the limits, and the license, of its base.',
  ]
  return `## Limits\n\n${lines.filter(Boolean).join('\n')}`
}

function loading(base: BaseModel, adapter: AdapterState): string {
  const name = base.revision === null ? `path/to/${basename(base.name)}` : base.name
  const whole = savesModel(adapter.description)
  const { labels } = base
  const revision = base.revision === null ? '' : `, revision="${base.revision}"`
  const auto = labels === null ? 'AutoModelForCausalLM' : 'AutoModelForSequenceClassification'
  const names = labels?.map((label, id) => `${id}: ${JSON.stringify(label)}`).join(', ')
  const head = labels === null ? '' : `, num_labels=${labels.length}, id2label={${names}}`
  const python = whole
    ? [`from transformers import ${auto}`, '', `model = ${auto}.from_pretrained("path/to/this/folder")`]
    : [
        'from peft import PeftModel',
        `from transformers import ${auto}`,
        '',
        `base = ${auto}.from_pretrained("${name}"${revision}${head})`,
        'model = PeftModel.from_pretrained(base, "path/to/this/folder")',
      ]
  const call =
    labels === null
      ? `npx lowrank generate --model ${whole ? 'path/to/this/folder' : `"${name}" --adapter path/to/this/folder`} --prompt "…"`
      : `npx lowrank classify --model "${name}" --adapter path/to/this/folder --text "…"`
  const gguf = base.files.kind === 'gguf' && !whole
  const other = gguf
    ? ''
    : `\n\nWith ${whole ? 'transformers' : 'PEFT'}:\n\n\`\`\`python\n${python.join('\n')}\n\`\`\``
  return `## Use\n\nWith lowrank:\n\n\`\`\`sh\n${call}\n\`\`\`${other}`
}
