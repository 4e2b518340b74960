/** The server of the Model Context Protocol: tools, resources, and a prompt over the jobs of a folder. */
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { McpServer, ResourceTemplate } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js'
import type { RequestHandlerExtra } from '@modelcontextprotocol/sdk/shared/protocol.js'
import {
  RootsListChangedNotificationSchema,
  type ServerNotification,
  type ServerRequest,
} from '@modelcontextprotocol/sdk/types.js'
import * as z from 'zod'
import { formatBytes } from '../../core/bytes.js'
import { ConfigError, DataError, FileFormatError, OutOfMemoryError } from '../../core/errors.js'
import { parseBytes } from '../../core/schema.js'
import { codeOf, fromSystem } from '../../core/system-error.js'
import { parseHubName } from '../../hub/name.js'
import { lossCurve } from '../../report/report.js'
import { listCheckpoints } from '../../train/checkpoints/checkpoint-folder.js'
import { type RunConfig, resolveConfig } from '../../train/config/config.js'
import { withLabels } from '../../train/config/labels.js'
import { foldersOf } from '../../train/folders/output-folder.js'
import { hasEnded } from '../../train/records/metrics-file.js'
import { formatDuration } from '../format.js'
import { inspectRows } from '../inspect/dataset.js'
import { markedText } from '../inspect/examples.js'
import { columnsOf } from '../inspect.js'
import { Output } from '../output.js'
import { cardData } from '../plan/card.js'
import { bytesBeside } from '../plan/fit.js'
import { planned } from '../plan/planned.js'
import { targetOf } from '../plan/target.js'
import { HeldModel, type Wanted } from './held.js'
import { isAtWork, type JobRecord } from './job-store.js'
import { Jobs, SOURCE } from './jobs.js'
import { Places } from './places.js'
import { type Arguments, type Result, TOOLS, type ToolName } from './tools.js'

/** Keys of a config that other arguments or the server decide. */
const DECIDED = ['model', 'revision', 'dataset', 'eval_dataset', 'output_dir', 'reward_functions']
/** Share of the rows that a compare holds out by itself. */
const HELD_OUT = 0.1
const SAVE_STEPS = 50
const MOST_JOBS = 20
const BEAT_MS = 1000
/** How long a user may think about a plan. */
const ANSWER_MS = 15 * 60_000
const NO_LIMIT = 2 ** 31 - 1
const SHOWN_ROWS = 2

const INSTRUCTIONS =
  'Fine-tunes language models on this machine. Inspect the data, plan, read bytes and minutes of the plan to the user, ' +
  'train with the budget that the user agreed to, wait with status, ask the job the same prompts as the base model, then export.'

export interface McpOptions {
  /** The folders that clients may name paths in. */
  allow: readonly string[]
  /** Folder of jobs. */
  data?: string | undefined
  /** True to let models be downloaded from the hub. */
  hub: boolean
  version: string
}

type Extra = RequestHandlerExtra<ServerRequest, ServerNotification>
type RunArguments = Partial<
  Pick<Arguments<'train'>, 'model' | 'dataset' | 'columns' | 'eval_dataset' | 'config'>
>

export class LowrankServer {
  readonly #server: McpServer
  readonly #places: Places
  readonly #jobs: Jobs
  readonly #held = new HeldModel()
  readonly #hub: boolean
  #rooted: Promise<void> = Promise.resolve()

  /** @throws {ConfigError} for folders that are not there */
  static async open(options: McpOptions): Promise<LowrankServer> {
    return new LowrankServer(await Places.open(options.allow), options)
  }

  private constructor(places: Places, { data, hub, version }: McpOptions) {
    this.#places = places
    this.#hub = hub
    this.#jobs = new Jobs(join(data ?? join(places.first, 'lowrank-mcp'), 'jobs'), () => this.#held.release())
    this.#server = new McpServer(
      { name: 'lowrank', title: 'lowrank', version },
      {
        instructions: INSTRUCTIONS,
        // Answers of users are checked where they are read.
        jsonSchemaValidator: {
          getValidator: () => (data) => ({ valid: true, data: data as never, errorMessage: undefined }),
        },
      },
    )
    this.#tools()
    this.#resources()
    this.#prompts()
    const { server } = this.#server
    const read = () => {
      this.#rooted = this.#readRoots()
    }
    server.oninitialized = read
    server.setNotificationHandler(RootsListChangedNotificationSchema, read)
  }

  /** Serves the client at the other end of these streams. */
  connect(stdin: Readable, stdout: Writable): Promise<void> {
    return this.#server.connect(new StdioServerTransport(stdin, stdout))
  }

  /** Stops jobs with a checkpoint, and frees memory. */
  async close(): Promise<void> {
    await this.#jobs.close()
    await this.#held.release()
    await this.#server.close()
  }

  /** Folders of the client narrow those of the start; a client without any says nothing. */
  async #readRoots(): Promise<void> {
    const { server } = this.#server
    if (!server.getClientCapabilities()?.roots) return
    const { roots } = await server.listRoots().catch(() => ({ roots: [] }))
    const folders = roots.flatMap(({ uri }) => (uri.startsWith('file:') ? [fileURLToPath(uri)] : []))
    await this.#places.narrow(roots.length === 0 ? undefined : folders)
  }

  #tools(): void {
    this.#tool('plan', ({ model, ...run }, extra) => this.#plan({ model, ...run }, extra))
    this.#tool('inspect', (asked) => this.#inspect(asked))
    this.#tool('train', (asked, extra) => this.#begin('train', asked, extra))
    this.#tool('compare', (asked, extra) => this.#begin('compare', asked, extra))
    this.#tool('status', ({ job, wait = 0 }, extra) => this.#status(job, wait, extra))
    this.#tool('stop', async ({ job }) => {
      const { id, state, step } = await this.#jobs.stop(job)
      return { job: id, state, step }
    })
    this.#tool('ask', (asked, extra) => this.#ask(asked, extra))
    this.#tool('export', (asked, extra) => this.#export(asked, extra))
  }

  #tool<Name extends ToolName>(
    name: Name,
    work: (asked: Arguments<Name>, extra: Extra) => Promise<Result<Name>>,
  ): void {
    const { title, description, input, output, annotations } = TOOLS[name]
    const about = { title, description, inputSchema: input, outputSchema: output, annotations }
    // The union of all schemas is more than the compiler follows.
    const register = this.#server.registerTool.bind(this.#server) as (
      name: string,
      about: object,
      handle: (asked: unknown, extra: Extra) => Promise<object>,
    ) => void
    register(name, about, async (asked, extra) => {
      try {
        await this.#rooted
        const result = await alive(extra, title, work(asked as Arguments<Name>, extra))
        return {
          structuredContent: result,
          content: [{ type: 'text', text: JSON.stringify(result, null, 1) }],
        }
      } catch (caught) {
        const error = fromSystem(caught)
        const { message } = error as Error
        const code = codeOf(error)
        return { isError: true, content: [{ type: 'text', text: `${code}: ${message}` }] }
      }
    })
  }

  async #model(model: string): Promise<string> {
    const path = await this.#places.existing(model, 'model').catch((error: unknown) => error as Error)
    if (typeof path === 'string') return path
    if (parseHubName(model) === undefined || model.split('/').includes('..')) throw path
    if (this.#hub) return model
    throw new ConfigError(`${path.message} Names on the Hugging Face Hub need a server with --hub.`, {
      model,
    })
  }

  /** Keys of a config from the arguments of a call, with absolute paths. */
  async #raw({ model, dataset, columns, eval_dataset, config = {} }: RunArguments) {
    for (const key of DECIDED)
      if (key in config)
        throw new ConfigError(`config.${key}: give it as an argument of its own, or not at all.`, { key })
    if (typeof config.chat_template === 'string')
      throw new ConfigError('config.chat_template: expected true or false; no file is read.', {})
    if (model === undefined) throw new ConfigError('model: expected a path.', {})
    const data = async (path: string, name: string) => {
      const place = await this.#places.existing(path, name)
      return columns === undefined ? place : { path: place, columns }
    }
    const { strategy = 'lora' } = config
    return {
      ...config,
      strategy: typeof strategy === 'string' ? { name: strategy } : strategy,
      model: await this.#model(model),
      // Without data, the plan does not depend on it.
      dataset: dataset === undefined ? 'any' : await data(dataset, 'dataset'),
      ...(eval_dataset === undefined ? {} : { eval_dataset: await data(eval_dataset, 'eval_dataset') }),
    } as Record<string, unknown>
  }

  async #plan(run: RunArguments, { signal }: Extra): Promise<Result<'plan'>> {
    return planOf(await this.#raw(run), run.dataset !== undefined, signal)
  }

  async #inspect({ model, dataset, columns = {} }: Arguments<'inspect'>): Promise<Result<'inspect'>> {
    const path = await this.#places.existing(dataset, 'dataset')
    const own = columnsOf(Object.entries(columns).map(([name, column]) => `${name}=${column}`))
    const encoding = { maxSeqLength: NO_LIMIT, prompting: { prompts: true, instructions: true } }
    const tokens = model === undefined ? {} : { tokens: { model: await this.#model(model), encoding } }
    const detected = { format: 'auto', fileType: 'auto', encoding: 'auto' } as const
    const form = { ...detected, columns: own, stripLabels: false }
    const output = Output.silent()
    try {
      const { data } = await inspectRows({ path, form, ...tokens, rows: SHOWN_ROWS }, output)
      if (data.kind !== 'dataset') throw new DataError(`${dataset} is no dataset.`)
      return {
        ...{ trainable: true, format: data.format, rows: data.rows, problems: data.remarks },
        tokens: data.tokens
          ? { total: data.tokens.total, longest: data.tokens.max, median: data.tokens.median }
          : null,
        trained_tokens: data.supervised_tokens ?? null,
        duplicates: data.duplicates.rows.rows,
        examples: (data.examples ?? []).map(({ parts }) => markedText(parts, output, false)),
      }
    } catch (error) {
      if (!(error instanceof DataError || error instanceof FileFormatError)) throw error
      return {
        ...{ trainable: false, format: null, rows: 0, tokens: null, trained_tokens: null, duplicates: 0 },
        ...{ problems: [error.message], examples: [] },
      }
    }
  }

  async #begin(
    kind: JobRecord['kind'],
    asked: Arguments<'train'> & Partial<Arguments<'compare'>>,
    extra: Extra,
  ): Promise<Result<'train'>> {
    const { job, budget, model, dataset, strategies = null, seeds = null, ...run } = asked
    if (job !== undefined && (model !== undefined || dataset !== undefined || Object.keys(run).length > 0))
      throw new ConfigError('job: a stopped job goes on with its own model, data, and config.', { job })
    const record = job === undefined ? undefined : await this.#stopped(job, kind)
    if (record === undefined && dataset === undefined) throw new ConfigError('dataset: expected a path.', {})
    const raw = record?.config ?? (await this.#raw({ model, dataset, ...run } as RunArguments))
    // A client may kill the server when it leaves.
    if (kind === 'train' && !raw.load_best_model_at_end)
      Object.assign(raw, { save_steps: SAVE_STEPS, save_total_limit: 2, ...raw })
    if (kind === 'compare' && raw.eval_dataset === undefined && !raw.eval_fraction)
      raw.eval_fraction = HELD_OUT
    const plan = await planOf(raw, true, extra.signal)
    const { process_bytes: bytes, fits, available_bytes: available } = plan
    // A compare is cut to fit its minutes.
    const seconds = kind === 'compare' ? (budget?.minutes ?? 0) * 60 : plan.seconds
    if (!fits)
      throw new OutOfMemoryError(
        `the plan needs ${formatBytes(bytes)}, and ${formatBytes(available)} are available. A smaller per_device_train_batch_size or max_seq_length, gradient_checkpointing, or strategy qlora takes less.`,
        { needed: bytes, available },
      )
    const time = seconds === null ? 'a time that is not known' : `about ${formatDuration(seconds)}`
    const words = `${formatBytes(bytes)} of memory and ${time}`
    checkBudget(budget, bytes, seconds, words)
    await this.#agreed(
      `${kind === 'train' ? 'Train' : 'Compare strategies'} with ${words}?`,
      budget,
      words,
      extra,
    )
    const minutes = budget?.minutes ?? null
    const spent = { planned_bytes: bytes, planned_seconds: seconds, minutes }
    const created =
      record === undefined
        ? await this.#jobs.store.create({ kind, config: raw, strategies, seeds, ...spent })
        : { ...record, ...spent }
    const { id } = await this.#jobs.begin(created)
    return { job: id, planned_bytes: bytes, planned_seconds: seconds, output: this.#outputOf(created) }
  }

  /** A job that can go on, on paths that may still be used. */
  async #stopped(id: string, kind: JobRecord['kind']): Promise<JobRecord> {
    const record = await this.#jobs.get(id)
    if (record.kind !== kind) throw new ConfigError(`${id} is of the tool ${record.kind}.`, { job: id })
    if (record.state === 'succeeded' || isAtWork(record))
      throw new ConfigError(`${id} is ${record.state}; only a stopped or failed job goes on.`, { job: id })
    await this.#checkPlaces(record)
    return record
  }

  async #checkPlaces({ config: { model, dataset, eval_dataset } }: JobRecord): Promise<void> {
    await this.#model(model as string)
    for (const data of [dataset, eval_dataset] as (string | { path: string } | undefined)[])
      if (data !== undefined)
        await this.#places.existing(typeof data === 'string' ? data : data.path, 'dataset')
  }

  /** @throws {ConfigError} unless the user has agreed, or its budget stands in for that */
  async #agreed(
    message: string,
    budget: Arguments<'train'>['budget'],
    words: string,
    { signal }: Extra,
  ): Promise<void> {
    const { server } = this.#server
    if (!server.getClientCapabilities()?.elicitation) {
      if (budget !== undefined) return
      throw new ConfigError(
        `the plan needs ${words}. Read this to the user, then pass budget {minutes, memory}, which the job keeps to.`,
        {},
      )
    }
    const start = { type: 'boolean', title: 'Start', description: message } as const
    const requestedSchema = { type: 'object' as const, properties: { start }, required: ['start'] }
    // An answer that does not come in time rejects, and is no yes.
    const { action, content } = await server.elicitInput(
      { message, requestedSchema },
      { timeout: ANSWER_MS, signal },
    )
    if (action !== 'accept' || content?.start !== true)
      throw new ConfigError('the user did not agree to the plan; nothing was started.', {})
  }

  async #status(id: string | undefined, wait: number, extra: Extra): Promise<Result<'status'>> {
    const job = id ?? (await this.#jobs.all())[0]?.id
    if (job === undefined) throw new ConfigError('there is no job yet; train starts one.', {})
    if (wait > 0) {
      await this.#jobs.get(job)
      const tell = progressOf(extra)
      const until = performance.now() + wait * 1000
      while (performance.now() < until && !extra.signal.aborted) {
        const { state, step, total_steps, loss } = await this.#jobs.get(job)
        if (!isAtWork({ state })) break
        await tell(
          `${state}, step ${step}${loss === null ? '' : `, loss ${loss.toFixed(4)}`}`,
          step,
          total_steps,
        )
        await this.#jobs.wait(job, Math.min(BEAT_MS, until - performance.now()), extra.signal)
      }
    }
    const record = await this.#jobs.get(job)
    const { kind, state, step, total_steps, loss, eval_loss, seconds_left } = record
    const { code, message, notes, samples, table } = record
    const others = (await this.#jobs.all()).slice(0, MOST_JOBS)
    return {
      ...{ job, kind, state, step, total_steps, loss, eval_loss, seconds_left },
      ...{ output: this.#outputOf(record), code, message, notes, samples, table },
      jobs: others.map((one) => ({ job: one.id, state: one.state })),
    }
  }

  async #ask(asked: Arguments<'ask'>, { signal }: Extra): Promise<Result<'ask'>> {
    const { job, model, prompt, system, max_new_tokens: maxNewTokens = 256, temperature = 0 } = asked
    if ((job === undefined) === (model === undefined))
      throw new ConfigError('ask: name either a job or a model.', {})
    const how = { maxNewTokens, temperature, signal, ...(system === undefined ? {} : { system }) }
    const run = job === undefined ? undefined : this.#jobs.runOf(job)
    if (run !== undefined) {
      const { text, tokenIds, step } = await run.ask(prompt, how)
      return { text, tokens: tokenIds.length, step }
    }
    const wanted = job === undefined ? await this.#base(model as string) : await this.#tuned(job)
    return this.#held.use(wanted, signal, async (answering) => {
      const isChat = answering.promptFormat === null && (await answering.hasChatTemplate())
      const { text, tokenIds } = await answering.generate(prompt, {
        ...how,
        ...(isChat ? { chatTemplate: true } : {}),
      })
      return { text, tokens: tokenIds.length, step: null }
    })
  }

  async #base(model: string): Promise<Wanted> {
    const path = await this.#model(model)
    return { key: path, options: { model: path } }
  }

  /** The model of a job: its result, else that of its newest checkpoint. */
  async #tuned(id: string): Promise<Wanted> {
    const record = await this.#jobs.get(id)
    if (record.kind !== 'train') throw new ConfigError(`${id} is a compare, which has no model.`, { job: id })
    if (isAtWork(record)) throw new ConfigError(`${id} has not begun to train; ask again later.`, { job: id })
    await this.#checkPlaces(record)
    const config = resolveConfig(record.config, SOURCE, '/')
    const { runDir } = foldersOf(config.outputDir, config.strategy)
    if (await hasEnded(runDir)) return { key: id, config, options: {} }
    const [newest] = await listCheckpoints(runDir)
    if (newest === undefined)
      throw new ConfigError(`${id} has no checkpoint; it was ${record.state}.`, { job: id })
    return { key: `${id} ${newest}`, config, options: { adapter: [newest] } }
  }

  async #export(
    { job, format, output, dtype }: Arguments<'export'>,
    { signal }: Extra,
  ): Promise<Result<'export'>> {
    const path = await this.#places.free(output, 'output')
    return this.#held.use(await this.#tuned(job), signal, async (model) => {
      const written = await model.export(path, { format, signal, ...(dtype === undefined ? {} : { dtype }) })
      const { files, remarks, check } = written
      return { output: path, files, remarks, deviation: check?.maxAbsLogitError ?? null }
    })
  }

  #outputOf({ id, kind }: Pick<JobRecord, 'id' | 'kind'>): string {
    return this.#jobs.store.path(id, kind === 'train' ? 'run' : 'compare')
  }

  #resources(): void {
    const parts = {
      receipt: {
        mimeType: 'application/json',
        description: 'What was asked, planned, and done',
        read: async (job: JobRecord) => JSON.stringify(job, null, 1),
      },
      metrics: {
        mimeType: 'text/csv',
        description: 'Losses by step',
        read: async (job: JobRecord) => csvOf(await this.#jobs.metrics(job)),
      },
      curve: {
        mimeType: 'image/svg+xml',
        description: 'The losses as a picture',
        read: async (job: JobRecord) => {
          const curve = lossCurve(await this.#jobs.metrics(job), job.id)
          if (curve === undefined) throw new ConfigError(`${job.id} has made no step yet.`, { job: job.id })
          return curve
        },
      },
    }
    for (const [name, { read, ...about }] of Object.entries(parts)) {
      const list = async () => ({
        resources: (await this.#jobs.all()).slice(0, MOST_JOBS).map(({ id, state }) => ({
          ...about,
          uri: `lowrank://jobs/${id}/${name}`,
          name: `${name} of ${id}, ${state}`,
        })),
      })
      const template = new ResourceTemplate(`lowrank://jobs/{job}/${name}`, { list })
      this.#server.registerResource(name, template, about, async (uri, { job }) => {
        const text = await read(await this.#jobs.get(String(job)))
        return { contents: [{ uri: uri.href, mimeType: about.mimeType, text }] }
      })
    }
  }

  #prompts(): void {
    this.#server.registerPrompt(
      'fine-tune',
      {
        title: 'Fine-tune a model',
        description: 'From data to an exported model, with a plan before anything is spent',
        argsSchema: { dataset: z.string(), model: z.string().optional(), goal: z.string().optional() },
      },
      ({ dataset, model, goal }) => ({
        messages: [{ role: 'user', content: { type: 'text', text: fineTune(dataset, model, goal) } }],
      }),
    )
  }
}

/** @throws {ConfigError} for a plan over the budget */
function checkBudget(
  budget: Arguments<'train'>['budget'],
  bytes: number,
  seconds: number | null,
  words: string,
): void {
  if (budget === undefined) return
  const memory = parseBytes(budget.memory)
  if (memory === undefined)
    throw new ConfigError(`budget.memory: '${budget.memory}', expected a size such as 8GiB.`, {})
  if (bytes > memory || (seconds ?? 0) > budget.minutes * 60)
    throw new ConfigError(
      `the plan needs ${words}, which is over the budget of ${budget.memory} and ${budget.minutes} minutes; nothing was started.`,
      { bytes, seconds },
    )
}

async function planOf(
  raw: Record<string, unknown>,
  hasData: boolean,
  signal: AbortSignal,
): Promise<Result<'plan'>> {
  const read = resolveConfig({ ...raw, output_dir: raw.output_dir ?? 'out' }, SOURCE, '/')
  const config: RunConfig = hasData ? await withLabels(read) : read
  const { card } = targetOf(config)
  const asked = { budget: undefined, hasData, counts: false, card, ranks: undefined }
  const { memory, beside, time, paged, kernels } = await planned(config, asked, Output.silent())
  signal.throwIfAborted()
  const peak = paged?.peakBytes ?? memory.peakBytes
  const bytes = (card ? memory.pinnedBytes : peak) + bytesBeside(beside)
  const available = process.availableMemory()
  const onCard = card && kernels && cardData(card, memory, kernels, config.gradientAccumulationSteps)
  const known = 'unknown' in time ? undefined : time
  return {
    ...{ peak_bytes: peak, process_bytes: bytes, available_bytes: available },
    fits: bytes <= available && (onCard?.fits ?? true),
    ...{ steps: known?.steps ?? null, seconds: known?.runSeconds ?? null },
    strategy: config.strategy.name,
    ...{ trainable_parameters: memory.trainableParameters, total_parameters: memory.totalParameters },
    rows: memory.rows.map(({ category, bytes }) => ({ category, bytes })),
  }
}

/** Sends progress to clients that asked for it, always more than before. */
function progressOf({ _meta, sendNotification }: Extra) {
  const progressToken = _meta?.progressToken
  let last = 0
  return async (message: string, done = 0, total: number | null = null): Promise<void> => {
    if (progressToken === undefined) return
    last = Math.max(done, last + 0.001)
    const params = { progressToken, progress: last, message, ...(total === null ? {} : { total }) }
    await sendNotification({ method: 'notifications/progress', params })
  }
}

/** Sends progress until work is done, so that clients do not give up on it; a wait for a job sends its own. */
async function alive<T>(extra: Extra, title: string, work: Promise<T>): Promise<T> {
  if (title === TOOLS.status.title) return work
  const tell = progressOf(extra)
  const timer = setInterval(() => void tell(title).catch(() => undefined), BEAT_MS)
  return work.finally(() => clearInterval(timer))
}

function csvOf(lines: Awaited<ReturnType<Jobs['metrics']>>): string {
  const held = new Map(lines.flatMap((line) => (line.event === 'eval' ? [[line.step, line.loss]] : [])))
  const rows = lines.flatMap((line) =>
    line.event === 'step' ? [`${line.step},${line.loss ?? ''},${held.get(line.step) ?? ''}`] : [],
  )
  return ['step,train_loss,eval_loss', ...rows, ''].join('\n')
}

function fineTune(dataset: string, model = 'a model in the allowed folders', goal?: string): string {
  return [
    `Fine-tune ${model} on ${dataset}${goal === undefined ? '' : ` so that it can: ${goal}`}. Use the tools of lowrank in this order:`,
    '1. inspect the data with the model; show me problems, and stop if it is not trainable.',
    '2. ask the base model three prompts like those of the data.',
    '3. plan, and read me its bytes and minutes. Go on only if I agree.',
    '4. train with a budget of what I agreed to, holding out rows (config: {"eval_fraction": 0.1}).',
    '5. status with wait until it ends; show the losses and samples. If it failed, say why.',
    '6. ask the job the same three prompts, and compare the answers with me.',
    '7. If I like them, export in the format that I name.',
  ].join('\n')
}
