/**
 * Every sentence of the documentation, and of the answers to other programs' options, that says that something is missing:
 * each names the code that refuses it. A feature that lands takes that code away, and with it the sentence has to go.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { FOREIGN_VERBS, foreignKeys } from '../lib/core/foreign-keys.js'
import { optimizerSchema } from '../lib/options/optimizers.js'
import { listStrategies } from '../lib/strategies/index.js'
import { tasksWhere } from '../lib/tasks/index.js'
import { generateSchema } from '../lib/train/answers/generate.js'
import { configJsonSchema } from '../lib/train/config/config-schema.js'
import { precisionSchema } from '../lib/weights/options.js'
import { published } from './lib/cli/contract.js'
import { guides } from './pages.js'

const root = fileURLToPath(new URL('..', import.meta.url))
const read = (path: string) => readFileSync(join(root, path), 'utf8')

/** Words that deny. */
const DENIES =
  /not supported|does not support|no support|unsupported|not (?:\w+ ){0,4}yet\b|never (?:been )?(?:ran|run)\b|\bhas no web|does not upload|the only tracker is/i

/** A file that holds these words as long as the thing is missing. */
type Shown = readonly [file: string, words: string]
const platforms: Shown = ['scripts/platforms/results.json', '"addons"']
/** Here, in the test of lists. */
const lists = (words: string): Shown => ['test/denials.test.ts', words]

/** What is denied, and where that shows. */
const DENIALS: readonly (readonly [says: RegExp, ...shown: Shown[]])[] = [
  // Models and weights.
  [
    /mixtures of experts/,
    ['lib/formats/gguf-model.ts', 'is a mixture of experts'],
    ['lib/models/granite.ts', 'only dense models'],
  ],
  [/images and the prediction of further tokens/, ['test/lib/formats/text-model.test.ts', "'mtp.layers.0"]],
  [
    /Not supported, with an error that names them: other RoPE scalings/,
    ['lib/models/rope.ts', 'is not supported'],
  ],
  [/^Other model families|^## Not supported yet/, ['lib/models/index.ts', 'is not supported']],
  [/Adapters of the head are not supported/, ['lib/strategies/targets.ts', 'HEAD_ADVICE']],
  [/FP8 is not supported/, ['test/lib/formats/model-files.test.ts', "'F8_E4M3'"]],
  [/FP8 arithmetic|fp16 arithmetic/, lists('precisionSchema')],
  [/unknown or unsupported level/, ['native/backends/cpu/levels.cpp', 'LOWRANK_ISA']],
  // Adapters and training.
  [/this initialization is not supported/, ['lib/peft/adapter-config.ts', 'is not supported; expected']],
  [/A second iteration would quantize|it is not supported\.$/, ['docs/strategies/lora.md', 'one iteration']],
  [/not supported: it would give gradients/, ['lib/strategies/dylora.ts', 'project']],
  [
    /does not support 8-bit state or Adafactor/,
    ['lib/options/optimizers.ts', 'updates each rank on its own'],
  ],
  [/(GaLore|BAdam|APOLLO|ReLoRA)\b/, lists('listStrategies()')],
  [/several classes and numbers/, ['lib/core/foreign-options.ts', 'problem_type']],
  [/plugins are not supported/, lists('listStrategies()')],
  [/SimPO and reward models/, lists('tasksWhere')],
  [/\*\*Not supported\*\*: GPUs;/, ['docs/cluster.md', 'Each is refused by name.']],
  [/Unsupported settings \(`lora_bias`/, ['lib/peft/adapter-config.ts', 'UnsupportedError']],
  // Files, generation, and services.
  [
    /does not support rsLoRA|are not supported by the format/,
    ['lib/export/gguf-lora.ts', 'UnsupportedError'],
  ],
  [/beam search is not supported/, lists('generateSchema')],
  [/a repetition penalty is not supported/, lists('generateSchema')],
  [/min_p is not supported/, lists('generateSchema')],
  [/does not upload/, lists("'upload'")],
  [/the only tracker is TensorBoard/, lists('report_to')],
  // What no program of ours can tell from inside.
  [/not published yet/, ['docs/releasing.md', 'npm']],
  [/has not been run in Electron yet/, ['test/electron.test.ts', 'stand-in']],
  [/never run|has never run/, platforms],
  [/loads SmolLM2 and refuses to train it/, ['docs/benchmarks.md', '@qvac/llm-llamacpp']],
  // Names of codes and sections.
  [
    /`UNSUPPORTED`|`unsupported_media_type`|UnsupportedError|that is not supported$|^The feature, format, or architecture is not supported/,
    ['lib/core/errors.ts', 'is not supported here'],
  ],
  [
    /names what is not supported, such as the filter `groupby`/,
    ['lib/tokenizer/jinja/syntax.ts', 'is not supported; the largest is'],
  ],
]

/** Sentences that deny something, with the place of each. */
function denials(): [place: string, sentence: string][] {
  const pages = ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', ...guides]
  const sentences = (place: string, text: string) =>
    text.split(/(?<=[.;!?])\s+|\||\n/).map((part): [string, string] => [place, part.trim()])
  const notes = [
    ...[...foreignKeys.values()].flatMap((group) => Object.entries(group)),
    ...Object.entries(FOREIGN_VERBS),
  ]
  return [
    // Answers to other programs' options are in a page, too.
    ...pages.filter((page) => page !== 'docs/coming-from.md').flatMap((page) => sentences(page, read(page))),
    ...sentences('docs/coming-from.md', read('docs/coming-from.md').replace(/^\|.*$/gm, '')),
    ...notes.flatMap(([key, { note = '' }]) => sentences(key, note)),
  ].filter(([, sentence]) => DENIES.test(sentence))
}

test('what is said to be missing is refused by the code', () => {
  const said = denials()
  expect(said.length).toBeGreaterThan(20)
  const unknown = said.filter(([, sentence]) => !DENIALS.some(([says]) => says.test(sentence)))
  expect(unknown, 'sentences that no entry of DENIALS covers').toEqual([])
  for (const [says, ...shown] of DENIALS) {
    expect(
      said.some(([, sentence]) => says.test(sentence)),
      `${says} is said nowhere: remove it from DENIALS`,
    ).toBe(true)
    for (const [file, words] of shown) expect(read(file), `${says}, shown by ${file}`).toContain(words)
  }
})

test('the lists that denials stand on lack what is denied', () => {
  const names = listStrategies().map(({ name }) => name)
  for (const missing of ['galore', 'badam', 'apollo', 'relora']) {
    expect(names).not.toContain(missing)
    expect(optimizerSchema.safeParse(missing).success).toBe(false)
  }
  for (const precision of ['fp16', 'fp8']) expect(precisionSchema.safeParse(precision).success).toBe(false)
  for (const task of ['simpo', 'reward']) expect(tasksWhere(() => true)).not.toContain(task)
  for (const option of ['numBeams', 'repetitionPenalty', 'minP'])
    expect(generateSchema.shape).not.toHaveProperty(option)
  expect(configJsonSchema().properties).toMatchObject({ report_to: { enum: ['none', 'tensorboard'] } })
  for (const verb of ['upload']) expect(published).not.toContain(verb)
})
