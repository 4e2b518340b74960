/**
 * Writes the types of options and of events from their schemas, so that each is described once: the texts of config files
 * become documentation comments, and defaults are added to them.
 *
 *   node scripts/options.mjs [--check]     with --check nothing is written; exits 1 where a file is not up to date
 *
 * A schema whose type has a name, or that TypeScript knows more of than it does, says so by `named` (lib/core/type-names.ts).
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { rolldown } from 'rolldown'
import * as z from 'zod'
import { formatted } from './format.mjs'

const root = resolve(import.meta.dirname, '..')
const { values: flags } = parseArgs({ options: { check: { type: 'boolean', default: false } } })

const ENTRY = `
export { named, typeNames } from './lib/core/type-names.ts'
export { camelKey, snakeKey, unwrapped } from './lib/core/schema-shape.ts'
export { trainingMemory, memorySchemas } from './lib/options/memory-shape.ts'
export { optimizerSettings } from './lib/options/optimizers.ts'
export { trainShape } from './lib/options/options.ts'
export { LOSSES } from './lib/losses/list.ts'
export { scheduleSettings } from './lib/options/schedules.ts'
export { taskShape } from './lib/options/task.ts'
export { rulesNamed, strategySchema } from './lib/strategies/index.ts'
export * from './lib/train/records/event-schemas.ts'
`
const lib = await loaded(ENTRY)
const { camelKey, named, snakeKey, typeNames, unwrapped, rulesNamed, strategySchema } = lib

/** Keys of all options, by their spelling in config files. */
const spellings = new Map()

const strategies = strategySchema.options.map(({ shape }) => {
  const [name] = shape.name.def.values
  const { label, paper } = rulesNamed(name)
  return {
    name: `${pascal(name)}Config`,
    about: `Options of ${label}${paper === 'none' ? '' : ` (${paper})`}.`,
    parents: ['StrategyConfig'],
    shape,
    like: name === 'lora' ? undefined : { name: 'LoraConfig', shape: rulesNamed('lora').schema.shape },
    options:
      Object.keys(shape).length > 1 ? { name: `${pascal(name)}Options`, of: `${camel(name)}()` } : undefined,
  }
})

const losses = lib.LOSSES.map(({ name, about, schema }) => ({
  name: `${pascal(name.replaceAll('_', '-'))}Loss`,
  about: `${about}.`,
  given: true,
  shape: { name: z.literal(name), ...schema.shape },
}))

named(lib.planRow, { type: 'PlanRow', from: 'native/addon' })
named(lib.privacyReport, { type: 'PrivacyReport', from: 'strategies/privacy-report' })
named(lib.bestReport, { type: 'BestReport', from: 'train/steps/best' })
named(lib.runData, { type: 'RunDataFacts', about: 'Data of a run.' })
const round = named(z.any().optional().describe('Only after a round of private training'), {
  type: 'RoundPrivacy',
  from: 'strategies/privacy-report',
})
/** Types that events extend, and the keys that they do not repeat. */
const SHARED = {
  rate: [['RateSearch'], lib.rateSearch],
  step: [['PreferenceMetrics', 'RewardMetrics'], { ...lib.preference, ...lib.rewards, ...lib.roundPrivacy }],
  eval: [['Evaluation']],
}
const events = lib.trainEvents.map(({ description: about, shape }) => {
  const [name] = shape.event.def.values
  const [parents, keys = {}] = SHARED[name] ?? []
  const own =
    name === 'eval' ? { event: shape.event, step: shape.step } : without(shape, { time: undefined }, keys)
  if (name === 'step') own.privacy = round
  return {
    name: name === 'step' ? 'TrainStep' : `${pascal(name)}Event`,
    about,
    parents,
    given: true,
    shape: own,
  }
})

const FILES = [
  {
    file: 'lib/train/steps/events.ts',
    about: 'Events of a training run. JSON lines have the same fields in snake_case.',
    uses: ['Evaluation', 'PreferenceMetrics', 'RewardMetrics'].map((name) => [name, 'train/steps/evaluate']),
    interfaces: [
      {
        name: 'RateSearch',
        about: 'A learning rate chosen before the run.',
        given: true,
        shape: lib.rateSearch,
      },
      ...events,
    ],
    last: `/** An event of a run, discriminated by \`event\`. */
export type TrainEvent = ${events.map(({ name }) => name).join(' | ')}
`,
  },
  {
    file: 'lib/losses/types.ts',
    about: 'The losses with their options.',
    interfaces: losses,
    last: `/** Names of the built-in losses. */
export type LossName = LossOptions['name']

/** A loss with its options. */
export type LossOptions = ${losses.map(({ name }) => name).join(' | ')}
`,
  },
  {
    file: 'lib/strategies/configs.ts',
    about: 'Options of the strategies.',
    // Written here and not in strategy.ts, which imports this file.
    first: `/** Options of a strategy: plain frozen data that can be written as JSON and parsed back. */
export interface StrategyConfig {
  readonly name: string
}
`,
    interfaces: strategies,
  },
  {
    file: 'lib/options/types.ts',
    about: 'Options of a training run.',
    unions: [
      { name: 'Optimizer', about: 'An optimizer with its settings.', schemas: lib.optimizerSettings },
      { name: 'Schedule', about: 'A schedule with its settings.', schemas: lib.scheduleSettings },
    ],
    interfaces: [
      { name: 'TrainingMemory', about: 'Memory options of training.', shape: lib.trainingMemory },
      {
        name: 'MemoryShape',
        about: "Options that determine a run's memory use.",
        parents: ['TrainingMemory'],
        shape: without(lib.memorySchemas, lib.trainingMemory),
      },
      { name: 'TaskOptions', about: 'Options of the task.', shape: lib.taskShape },
      {
        name: 'TrainOptions',
        about: 'Options of a training run.',
        parents: ['TrainingMemory', 'TaskOptions'],
        shape: without(lib.trainShape, lib.trainingMemory, lib.taskShape),
      },
    ],
  },
]

for (const { interfaces, unions = [] } of FILES)
  for (const { shape } of [...interfaces, ...unions.flatMap(({ schemas }) => schemas)]) collect(shape)
for (const each of FILES) {
  const path = join(root, each.file)
  const text = fileOf(each)
  if (!flags.check) writeFileSync(path, text)
  else if (readFileSync(path, 'utf8') !== text) {
    console.error(`${each.file} is not what the schemas say; run node scripts/options.mjs`)
    process.exitCode = 1
  }
}

/** What a module exports that has the sources of lib/ inside. */
async function loaded(entry) {
  mkdirSync(join(root, 'out'), { recursive: true })
  const folder = mkdtempSync(join(root, 'out', 'options-'))
  try {
    const bundle = await rolldown({
      cwd: root,
      input: 'options-entry.ts',
      platform: 'node',
      plugins: [
        {
          name: 'entry',
          resolveId: (id) => (id === 'options-entry.ts' ? join(root, id) : null),
          load: (id) => (id === join(root, 'options-entry.ts') ? entry : null),
        },
      ],
      external: (id) => /^[^./]/.test(id) && id !== 'options-entry.ts',
      resolve: { extensionAlias: { '.js': ['.ts'], '.cjs': ['.cts'] } },
    })
    const { output } = await bundle.generate({ format: 'esm', codeSplitting: false })
    await bundle.close()
    const file = join(folder, 'options.mjs')
    writeFileSync(file, output[0].code)
    return await import(pathToFileURL(file).href)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** The keys of a shape that others lack. */
function without(shape, ...others) {
  return Object.fromEntries(Object.entries(shape).filter(([key]) => !others.some((other) => key in other)))
}

function fileOf({ file, about, uses = [], first = '', last = '', unions = [], interfaces }) {
  const imports = new Map(uses)
  const named = new Map()
  const united = unions.map(
    ({ name, about, schemas }) =>
      `${comment(about, '')}export type ${name} = ${unionOf(schemas, { imports, named })}\n`,
  )
  const body = interfaces.map((each) => interfaceOf(each, { imports, named }))
  const inner = [...named].map(([name, { schemas, about }]) =>
    interfaceOf(
      { name, about, shapes: [...schemas].map(({ shape }) => shape), given: interfaces[0].given },
      { imports, named },
    ),
  )
  const lines = [...new Set(imports.values())]
    .filter((from) => `lib/${from}.ts` !== file)
    .sort()
    .map((from) => {
      const names = [...imports].filter(([, other]) => other === from).map(([name]) => name)
      const path = relative(dirname(file), `lib/${from}.js`)
      return `import type { ${names.sort().join(', ')} } from '${path.startsWith('.') ? path : `./${path}`}'\n`
    })
  return formatted(`/** ${about} Written by \`node scripts/options.mjs\`. */
${lines.join('')}
${[first, ...inner, ...united, ...body, last].join('\n')}`)
}

/**
 * @param shapes of several schemas that have one type, which differ in the values of some keys
 * @param given true for options as a program gives them, of which those with a default may be absent
 */
function interfaceOf(
  { name, about, parents = [], shapes, shape = shapes[0], like, options, given },
  context,
) {
  const shared = like === undefined ? [] : Object.keys(shape).filter((key) => shape[key] === like.shape[key])
  const own = Object.entries(shape).filter(([key]) => !shared.includes(key))
  const keys = own.map(([key, schema]) => {
    const text = [respelled(schema.description ?? ''), defaultOf(schema)].filter(Boolean).join(' ')
    const mayLack = given && schema.isOptional() && !typeNames.get(schema)?.always ? '?' : ''
    return `${text === '' ? '' : comment(text, '  ')}  readonly ${camelKey(key)}${mayLack}: ${unionOf(
      (shapes ?? [shape]).map((each) => each[key]),
      context,
    )}\n`
  })
  const above = shared.length === 0 ? parents : [...parents, partOf(like, shared)]
  const extending = above.length === 0 ? '' : ` extends ${above.join(', ')}`
  const made = `${comment(respelled(about), '')}export interface ${name}${extending} {\n${keys.join('')}}\n`
  return options === undefined ? made : `${made}\n${partialOf(name, options, shape, context)}`
}

/** The keys that have the very schemas of another type. */
function partOf({ name, shape }, keys) {
  const others = Object.keys(shape).filter((key) => !keys.includes(key))
  const [part, listed] = others.length < keys.length ? ['Omit', others] : ['Pick', keys]
  return `${part}<${name}, ${listed.map((key) => `'${key}'`).join(' | ')}>`
}

/** Options as a program gives them: any of them, also within options that are objects. */
function partialOf(config, { name, of }, shape, context) {
  const objects = Object.entries(shape).filter(
    ([, schema]) => inside(schema).def.type === 'object' && typeNames.get(inside(schema)),
  )
  const left = ['name', ...objects.map(([key]) => key)].map((key) => `'${key}'`)
  const within = objects.map(([key, schema]) => {
    const type = typeOf(schema, context).replace(/^\w+/, 'Partial<$&>')
    return `${key}?: ${type}`
  })
  const rest = within.length === 0 ? '' : ` & { ${within.join('; ')} }`
  return `${comment(`Options of \`${of}\`.`, '')}export type ${name} = Partial<Omit<${config}, ${left.join(' | ')}>>${rest}\n`
}

/** A schema without its default and its null. */
function inside(schema) {
  const inner = unwrapped(schema)
  return inner === undefined ? schema : inside(inner)
}

function typeOf(schema, context) {
  return unionOf([schema], context)
}

/** The types of schemas, each once. */
function unionOf(schemas, context) {
  return [...new Set(schemas.flatMap((each) => membersOf(each, context)))].join(' | ')
}

/** The types of which a schema's is the union. */
function membersOf(schema, context) {
  const name = typeNames.get(schema)
  if (name !== undefined) {
    if (name.from !== undefined) context.imports.set(name.type, name.from)
    else if (schema.def.type === 'object') nameInto(context.named, name, schema)
    return [name.type]
  }
  const { def } = schema
  switch (def.type) {
    case 'default':
    case 'prefault':
    case 'optional':
    case 'readonly':
      return membersOf(def.innerType, context)
    case 'nullable':
      return [...membersOf(def.innerType, context), 'null']
    case 'string':
    case 'number':
    case 'boolean':
    case 'unknown':
      return [def.type]
    case 'literal':
      return def.values.map(literal)
    case 'enum':
      return Object.values(def.entries).map(literal)
    case 'union':
      return def.options.flatMap((each) => membersOf(each, context))
    case 'array':
      return [`readonly ${grouped(typeOf(def.element, context))}[]`]
    case 'pipe':
      return membersOf(def.in, context)
    case 'null':
      return ['null']
    case 'tuple':
      return [`readonly [${def.items.map((each) => typeOf(each, context)).join(', ')}]`]
    case 'record': {
      const type = `Record<${typeOf(def.keyType, context)}, ${typeOf(def.valueType, context)}>`
      return [`Readonly<${def.keyType.def.type === 'enum' ? `Partial<${type}>` : type}>`]
    }
    case 'object': {
      const keys = Object.entries(def.shape).map(
        ([key, each]) => `readonly ${camelKey(key)}: ${typeOf(each, context)}`,
      )
      return [`{ ${keys.join('; ')} }`]
    }
    default:
      throw new Error(`a schema of type ${def.type} needs a name`)
  }
}

function nameInto(named, { type, about }, schema) {
  const { schemas } = named.get(type) ?? { schemas: new Set() }
  named.set(type, { about, schemas: schemas.add(schema) })
}

function literal(value) {
  return typeof value === 'string' ? `'${value}'` : String(value)
}
function grouped(type) {
  return /[ |]/.test(type) ? `(${type})` : type
}

/** The default, where the text does not say it. */
function defaultOf(schema) {
  const { type, defaultValue } = schema.def
  const text = schema.description ?? ''
  if (type === 'prefault') return `Default \`${camel(defaultValue.name)}()\`.`
  if (type !== 'default' || /\bDefault\b/.test(text)) return ''
  if (defaultValue === null) return text.includes('`null`') ? '' : 'Default null.'
  const value =
    typeof defaultValue === 'string'
      ? `\`${defaultValue}\``
      : JSON.stringify(defaultValue).replaceAll(',', ', ')
  return `Default ${value}.`
}

/** A text for config files as one for programs: without links, and with the keys of programs. */
function respelled(text) {
  return text
    .replace(/(?: \(|, see )\[[^\]]+\]\([^)]+\)\)?/g, '')
    .replace(/\[([^\]]+)\]\([^)]+\)/g, '$1')
    .replace(/[^.]$/, '$&.')
    .replace(/`[^`]+`/g, (code) =>
      code.replace(/\b[a-z]+(?:_[a-z0-9]+)+\b/g, (key) => spellings.get(key) ?? key),
    )
}

function collect(shape) {
  for (const [key, schema] of Object.entries(shape)) {
    spellings.set(snakeKey(key), camelKey(key))
    const inner = inside(schema)
    if (inner.def.type === 'object') collect(inner.def.shape)
  }
}

/** A documentation comment of at most 120 columns. */
function comment(text, indent) {
  if (indent.length + text.length + 7 <= 120) return `${indent}/** ${text} */\n`
  const lines = ['']
  for (const word of text.split(' ')) {
    const line = lines.at(-1)
    if (line !== '' && indent.length + 3 + line.length + 1 + word.length > 120) lines.push(word)
    else lines[lines.length - 1] = line === '' ? word : `${line} ${word}`
  }
  return `${indent}/**\n${lines.map((line) => `${indent} * ${line}\n`).join('')}${indent} */\n`
}

function camel(name) {
  return camelKey(name.replaceAll('-', '_'))
}
function pascal(name) {
  return camel(`-${name}`)
}
