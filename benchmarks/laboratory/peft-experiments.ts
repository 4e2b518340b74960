/**
 * PEFT's published experiments (method_comparison/MetaMathQA of its repository) as entries of a compare. What has no
 * counterpart here is named with the reason, and so is what differs.
 */
import { existsSync, readdirSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { OwnEntry } from '../../lib/compare/entries.js'
import { ConfigError, LowrankError } from '../../lib/core/errors.js'
import { isRecord } from '../../lib/core/schema-shape.js'
import { readJsonObject } from '../../lib/io/input.js'
import { ADAPTER_CONFIG, checkedAdapterConfig } from '../../lib/peft/adapter-config.js'
import { keysOfStrategy, rulesForPeft, strategyFrom } from '../../lib/strategies/index.js'
import type { StrategyConfig } from '../../lib/strategies/strategy.js'

type Fields = Record<string, unknown>

/** An experiment that an entry of a compare repeats. */
export interface Covered {
  /** Method and name of the experiment, as in `vera/llama-3.2-3B-default`. */
  path: string
  entry: OwnEntry
  /** Its learning rate there. A compare searches one of its own. */
  rate: number | null
  /** What is not as it is there, in sentences without a period. */
  differs: readonly string[]
}

export interface Uncovered {
  path: string
  reason: string
}

export interface PeftTable {
  /** Settings that all experiments share, as keys of a config file. */
  training: Fields
  covered: readonly Covered[]
  uncovered: readonly Uncovered[]
}

export interface ReadOptions {
  /** Width of the model, which turns a number of OFT's blocks into their size. */
  width?: number | undefined
}

const DEFAULTS = 'default_training_params.json'
const TRAINING = 'training_params.json'
/** PEFT's modules for models like Llama where a config names none. */
const USUAL_MODULES = ['q_proj', 'v_proj']
/** The experiment that all others are compared with. */
const REFERENCE = /^lora\/.*rank32$/
const LIMIT = 1 << 20
/** Share of the steps that warm up, in PEFT's script. */
const WARMUP = 0.1
/** Settings of PEFT's LoRA that make another method of it, but that leave no trace in an adapter's file. */
const METHODS = ['corda_config', 'eva_config', 'kasa_config', 'loftq_config', 'lora_ga_config']
/** Weight decay of an optimizer that is given none. */
const USUAL_DECAY: Readonly<Record<string, number>> = { AdamW: 0.01, 'lora-fa': 0, 'lora+': 0.01 }

/**
 * Reads the experiments of a folder.
 * @param folder a checkout of PEFT, or its folder of experiments
 * @throws {ConfigError} for a folder without experiments
 * @throws {FileFormatError} for a missing or malformed file of settings that all share
 */
export async function readPeftTable(folder: string, options: ReadOptions = {}): Promise<PeftTable> {
  const experiments = experimentsIn(folder)
  const defaults = await readJsonObject(join(dirname(experiments), DEFAULTS), LIMIT)
  const paths = foldersIn(experiments).flatMap((method) =>
    foldersIn(join(experiments, method)).map((name) => `${method}/${name}`),
  )
  const covered: Covered[] = []
  const uncovered: Uncovered[] = []
  for (const path of paths) {
    try {
      covered.push(await readExperiment(experiments, path, defaults, options))
    } catch (error) {
      if (!(error instanceof LowrankError)) throw error
      const place = `${join(experiments, path)}/`
      const reason = error.message.replaceAll(place, '').replace(`${ADAPTER_CONFIG}: `, '')
      uncovered.push({ path, reason: reason.replace(/\.$/, '') })
    }
  }
  return { training: sharedTraining(defaults), covered: withReference(covered), uncovered }
}

function experimentsIn(folder: string): string {
  const places = ['method_comparison/MetaMathQA/experiments', 'experiments', '.'].map((one) =>
    join(folder, one),
  )
  const found = places.find(
    (place) => existsSync(join(dirname(place), DEFAULTS)) && foldersIn(place).length > 0,
  )
  if (found !== undefined) return found
  throw new ConfigError(
    `--peft ${folder} has no experiments; expected a checkout of huggingface/peft, or its folder method_comparison/MetaMathQA/experiments beside ${DEFAULTS}.`,
    { folder },
  )
}

function foldersIn(path: string): string[] {
  if (!existsSync(path)) return []
  const folders = readdirSync(path, { withFileTypes: true }).filter((one) => one.isDirectory())
  return folders.map(({ name }) => name).sort()
}

/** The experiment named as the reference of a compare, and first; the first LoRA if there is no usual one. */
function withReference(covered: readonly Covered[]): Covered[] {
  const reference =
    covered.find(({ path }) => REFERENCE.test(path)) ??
    covered.find(({ entry }) => entry.strategy.name === 'lora')
  if (reference === undefined) return [...covered]
  const others = covered.filter((one) => one !== reference)
  return [{ ...reference, entry: { ...reference.entry, name: 'lora' } }, ...others]
}

async function readExperiment(
  experiments: string,
  path: string,
  defaults: Fields,
  options: ReadOptions,
): Promise<Covered> {
  const folder = join(experiments, path)
  const own = existsSync(join(folder, TRAINING)) ? await readJsonObject(join(folder, TRAINING), LIMIT) : {}
  // As in PEFT's script, a setting of an experiment replaces the default as a whole.
  const training = { ...defaults, ...own }
  const kwargs = isRecord(training.optimizer_kwargs) ? training.optimizer_kwargs : {}
  const isFull = path.startsWith('full-finetuning/')
  const fields = isFull ? null : await readJsonObject(join(folder, ADAPTER_CONFIG), LIMIT)
  const { strategy, differs } =
    fields === null ? { strategy: strategyFrom({ name: 'full' }), differs: [] } : strategyOf(fields, options)
  return {
    path,
    entry: {
      name: entryName(path, training.model_id),
      strategy: optimized(strategy, String(training.optimizer_type), kwargs),
    },
    rate: typeof kwargs.lr === 'number' ? kwargs.lr : null,
    differs: [...differs, ...trainingDiffers(training, defaults)],
  }
}

/** `vera/llama-3.2-3B-default` is `vera-default`: all experiments have the same model. */
function entryName(path: string, model: unknown): string {
  const [method = '', name = ''] = path.split('/')
  const prefix = `${basename(String(model))}-`
  const short = name.toLowerCase().startsWith(prefix.toLowerCase()) ? name.slice(prefix.length) : name
  return `${method}-${short}`.replaceAll(/[^\w.-]+/g, '-')
}

function strategyOf(given: Fields, { width }: ReadOptions): { strategy: StrategyConfig; differs: string[] } {
  const { init_lora_weights: start, ...fields } = given
  const method = METHODS.find((key) => isSet(fields[key]))
  if (method !== undefined)
    throw new ConfigError(`${method} is set, which is another method than the LoRA here`, { key: method })
  const differs: string[] = []
  if (fields.peft_type === 'OFT' && typeof fields.r === 'number' && fields.r > 0) {
    if (width === undefined)
      throw new ConfigError(
        `r is ${fields.r}, a number of blocks, whose size depends on the model; name one with --model`,
      )
    fields.oft_block_size = Math.max(2, Math.round(width / fields.r))
    fields.r = 0
  }
  if (fields.peft_type === 'ADALORA' && isSet(fields.total_step)) {
    // A search of rates has shorter runs, so that numbers of steps cannot be kept.
    differs.push(
      `ranks are pruned after a tenth of the steps until three tenths before the end, there from step ${fields.tinit} until ${fields.tfinal} before the end of ${fields.total_step}`,
    )
    for (const key of ['tinit', 'tfinal', 'total_step']) delete fields[key]
  }
  const rules = rulesForPeft(String(fields.peft_type), fields)
  if (typeof fields.peft_type === 'string' && rules === undefined)
    throw new ConfigError(`peft_type is ${fields.peft_type}, a method that is not here`)
  const init = fields.init_weights ?? true
  if (rules !== undefined && init !== true && !rules.peftKeys?.includes('init_weights'))
    return { strategy: started(read(fields), 'initWeights', init), differs }
  return { strategy: started(read(fields), 'initLoraWeights', start ?? true), differs }
}

const read = (fields: Fields): StrategyConfig =>
  checkedAdapterConfig(ADAPTER_CONFIG, fields, USUAL_MODULES).strategy

/** A setting with a value other than off: PEFT writes all that it knows. */
function isSet(value: unknown): boolean {
  if (value === undefined || value === null || value === false) return false
  return typeof value !== 'object' || Object.keys(value).length > 0
}

/** The strategy with other initial values than the usual ones. */
function started(strategy: StrategyConfig, key: string, start: unknown): StrategyConfig {
  if (start === true) return strategy
  const told = `${key === 'initWeights' ? 'init_weights' : 'init_lora_weights'} is ${JSON.stringify(start)}`
  if (!keysOfStrategy(strategy.name)?.includes(key))
    throw new ConfigError(`${told}, which ${strategy.name} does not have here`, { key })
  try {
    return strategyFrom({ ...strategy, [key]: start })
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    throw new ConfigError(`${told}, a start that ${strategy.name} does not have here`, { key })
  }
}

/** The strategy with PEFT's optimizer, which is part of some of them. */
function optimized(strategy: StrategyConfig, optimizer: string, kwargs: Fields): StrategyConfig {
  if (optimizer === 'AdamW') return strategy
  if (strategy.name === 'lora' && optimizer === 'lora-fa')
    return strategyFrom({ ...strategy, name: 'lora-fa' })
  if (strategy.name === 'lora' && optimizer === 'lora+')
    return strategyFrom({
      ...{ name: 'lora-plus', adapter: strategy },
      ...(isSet(kwargs.loraplus_lr_ratio) ? { loraplusLrRatio: kwargs.loraplus_lr_ratio } : {}),
    })
  throw new ConfigError(
    `optimizer_type is ${JSON.stringify(optimizer)}, which ${strategy.name} does not have here; expected AdamW, or lora-fa or lora+ with LoRA`,
    { optimizer },
  )
}

function weightDecay({ optimizer_type: optimizer, optimizer_kwargs: kwargs }: Fields): number {
  const own = isRecord(kwargs) ? kwargs.weight_decay : undefined
  return typeof own === 'number' ? own : (USUAL_DECAY[String(optimizer)] ?? 0)
}

/** Settings of an experiment that a compare has in common for all. */
function trainingDiffers(training: Fields, defaults: Fields): string[] {
  const shared = ['model_id', 'batch_size', 'max_seq_length', 'grad_norm_clip', 'lr_scheduler']
  const found = shared
    .filter((key) => JSON.stringify(training[key]) !== JSON.stringify(defaults[key]))
    .map((key) => `${key} is ${training[key]} there, and ${defaults[key]} for all others`)
  const [there, here] = [weightDecay(training), weightDecay(defaults)]
  return there === here ? found : [...found, `weight decay is ${there} there, and ${here} here`]
}

function sharedTraining(defaults: Fields): Fields {
  return {
    per_device_train_batch_size: wholeNumber(defaults, 'batch_size'),
    max_seq_length: wholeNumber(defaults, 'max_seq_length'),
    weight_decay: weightDecay(defaults),
    // Null clips nothing there, as 0 does here.
    max_grad_norm: Number(defaults.grad_norm_clip ?? 0),
    lr_scheduler_type: defaults.lr_scheduler === 'cosine' ? 'cosine' : 'constant',
    warmup_ratio: defaults.lr_scheduler === 'cosine' ? WARMUP : 0,
  }
}

function wholeNumber(defaults: Fields, key: string): number {
  const value = defaults[key]
  if (Number.isInteger(value) && Number(value) > 0) return Number(value)
  throw new ConfigError(`${DEFAULTS}: ${key} is ${JSON.stringify(value)}, expected an integer from 1.`, {
    key,
    value,
  })
}

/** The rank of a strategy, or what it has in place of one. */
export function rankOf(strategy: StrategyConfig): string {
  const { r, targetR, oftBlockSize, adapter } = strategy as StrategyConfig & Fields
  if (isRecord(adapter)) return rankOf(adapter as unknown as StrategyConfig)
  if (oftBlockSize !== undefined) return `blocks of ${oftBlockSize}`
  const rank = targetR ?? r
  return rank === undefined ? '' : `rank ${rank}`
}
