/**
 * `lowrank serve`: files, fine-tuning jobs, and chats behind OpenAI's clients, on models of this machine. Ctrl-C saves a
 * checkpoint of the job at work, which goes on when the server starts again.
 */
import { existsSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { Writable } from 'node:stream'
import { stripVTControlCharacters } from 'node:util'
import { type Command, Option } from 'commander'
import { ConfigError } from '../core/errors.js'
import { isLoopback } from '../core/hosts.js'
import { readText } from '../io/input.js'
import type { Model } from '../model/model.js'
import {
  jsonLine,
  jsonOf,
  type LogEntry,
  modelName,
  type ServeOptions,
  type Service,
  serve,
  textOf,
} from '../serve/index.js'
import { loadConfig, loadQuantization } from '../train/config/config.js'
import { reportError, UsageError } from './errors.js'
import { collect, examples, integerFlag, memoryFlag, notedOn } from './help.js'
import { Interruption } from './interrupt.js'
import { serveFlags } from './live.js'
import { Output } from './output.js'
import { loadShown } from './subject.js'

interface Options {
  model?: string[]
  alias?: string[]
  data: string
  token?: string
  tokenFile?: string
  publicHost?: string[]
  port?: number
  host?: string
  quantization?: string
  precision?: string
  device?: string
  memory?: number
  logFormat: 'text' | 'json'
  stopTimeout?: number
  json?: boolean
}

/** Bytes of a file with a token. */
const MOST_TOKEN = 4096
/** Where the token may be given without showing it to others on the machine. */
const TOKEN = 'LOWRANK_TOKEN'

export function configure(command: Command): void {
  command.argument('[config]', 'the config file of a run: its model, and its trained adapter')
  command.option(
    '--model <[name=]model>',
    'a model folder, a .gguf file, or a name on the Hugging Face hub; may be repeated',
    collect,
  )
  command.option('--alias <name=model>', 'another name of a model; may be repeated', collect)
  command.option('--data <folder>', 'folder of files, jobs, and the token', 'lowrank-data')
  command.option('--token <text>', `key that clients send (default: ${TOKEN}, else one is made)`)
  command.option('--token-file <file>', 'file with that key, as supervisors give secrets')
  command.option(
    '--public-host <name>',
    'name that a proxy before the server is reached by; may be repeated',
    collect,
  )
  command.option('--quantization <type>', 'of the models: none (default), nf4, fp4, int8, or keep')
  command.option('--precision <type>', 'auto (default), fp32, or bf16')
  command.option('--device <name>', 'auto (default), cpu, cuda, or cuda:N for one of several GPUs')
  command.option(
    '--memory <size>',
    'most memory that models and jobs may take, such as 8GiB (default: what is free, or the memory of the GPU)',
    memoryFlag,
  )
  command.addOption(
    new Option('--log-format <format>', 'of stderr; json has every request, one line each')
      .choices(['text', 'json'])
      .default('text'),
  )
  command.option(
    '--stop-timeout <seconds>',
    'most seconds that answers may take after a stop (default: 10)',
    integerFlag(0),
  )
  serveFlags(command)
  examples(command, [
    'lowrank serve --model SmolLM2-135M-Instruct',
    'lowrank serve --model small=models/small.gguf --alias gpt-4o-mini=small --port 8000',
    'lowrank serve run.yaml',
  ])
  command.action(async (config: string | undefined, options: Options) => {
    const isLog = options.logFormat === 'json'
    const output = isLog ? loggingOutput(options.json ?? false) : new Output(options.json ?? false)
    const interruption = new Interruption(output, 'Finishing answers, then saving a checkpoint of the job.')
    try {
      await served(config, options, output, interruption.signal)
    } catch (error) {
      if (!isLog) throw error
      process.exitCode = reportError(error, output, 'lowrank serve')
    } finally {
      interruption.dispose()
    }
  })
}

async function served(
  path: string | undefined,
  options: Options,
  output: Output,
  signal: AbortSignal,
): Promise<void> {
  const {
    host = '127.0.0.1',
    port,
    data,
    memory,
    logFormat,
    stopTimeout,
    publicHost: publicHosts = [],
  } = options
  const token = await tokenOf(options)
  const { models, tuned } = await loaded(path, options, output, signal)
  const aliases = new Map((options.alias ?? []).map(pairOf))
  const service = await serve({
    ...{ models, tuned, aliases, host, data: resolve(data) },
    ...(port === undefined ? {} : { port }),
    ...(memory === undefined ? {} : { memory }),
    ...(stopTimeout === undefined ? {} : { stopTimeout: stopTimeout * 1000 }),
    ...(token === undefined ? {} : { token }),
    publicHosts,
    log: (entry) => logged(entry, logFormat, output),
  }).catch(async (error) => {
    for (const model of models.values()) await model.dispose()
    throw error
  })
  if (!isLoopback(host) && publicHosts.length === 0)
    output.note(`note: ${host} is served without encryption; put a server with TLS before it.`)
  const names = [...models.keys()]
  tell(service, names, options, output)
  output.note('Serving. Press Ctrl-C to end.')
  await new Promise<void>((ended) => {
    if (signal.aborted) ended()
    signal.addEventListener('abort', () => ended(), { once: true })
  })
  await service.close()
}

/** Says where the service is. Only --json has a key that a file has: other output may be kept with a log. */
function tell({ url, token, page }: Service, models: string[], options: Options, output: Output): void {
  const { data, tokenFile, logFormat } = options
  if (logFormat === 'json' && !output.json) {
    process.stderr.write(`${jsonLine('info', { event: 'serving', url, models })}\n`)
    return
  }
  const key = tokenFile === undefined ? token : `in ${tokenFile}`
  const shown = tokenFile === undefined ? page : new URL('/', url).href
  output.answer<'serve'>(
    { url, token, page, models, data: resolve(data) },
    () => `base URL  ${url}\nAPI key   ${key}\nmodels    ${models.join(', ')}\npage      ${shown}`,
  )
}

/** The key of the command line; undefined to have one made. */
async function tokenOf({ token, tokenFile }: Options): Promise<string | undefined> {
  if (tokenFile === undefined) return token ?? process.env[TOKEN]
  if (token !== undefined) throw new UsageError('--token and --token-file exclude each other.')
  const found = (await readText(tokenFile, MOST_TOKEN)).replace(/\r?\n$/, '')
  if (found === '') throw new ConfigError(`${tokenFile} is empty; expected the key of clients in one line.`)
  return found
}

function logged(entry: LogEntry, format: Options['logFormat'], output: Output): void {
  if (format === 'json') process.stderr.write(`${jsonOf(entry)}\n`)
  else {
    const text = textOf(entry)
    if (text !== undefined) output.note(text)
  }
}

/** An output whose notes are lines of the log in JSON. */
function loggingOutput(json: boolean): Output {
  const stderr = new Writable({
    decodeStrings: false,
    write(text: string, _encoding, done) {
      const plain = stripVTControlCharacters(text).trim()
      const [, level = 'info', message] = /^(?:(error|warning): )?(.*)$/s.exec(plain) ?? []
      if (message) process.stderr.write(`${jsonLine(level as 'info', { event: 'note', message })}\n`)
      done()
    },
  })
  return new Output(json, process.stdout, stderr as NodeJS.WritableStream as NodeJS.WriteStream)
}

/** The models of the command line, and the adapter of a config. */
async function loaded(
  path: string | undefined,
  { model: given = [], quantization, precision, device }: Options,
  output: Output,
  signal: AbortSignal,
): Promise<Required<Pick<ServeOptions, 'models' | 'tuned'>>> {
  if ((path === undefined) === (given.length === 0))
    throw new UsageError('pass either a config file or --model.')
  const models = new Map<string, Model>()
  const flags = {
    ...(quantization === undefined ? {} : { quantization: quantization as 'nf4' }),
    ...(precision === undefined ? {} : { precision: precision as 'auto' }),
    ...(device === undefined ? {} : { device: device as 'auto' }),
  }
  if (path !== undefined) {
    const config = await loadConfig(path, [], notedOn(output))
    const { revision, device, precision, threads, outputDir } = config
    const base = modelName(config.model)
    output.note(`Loading ${config.model}`)
    const options = { ...loadQuantization(config), revision, device, precision, threads, ...flags, signal }
    models.set(base, await loadShown(config.model, options, output))
    const isTuned = existsSync(join(outputDir, 'adapter_config.json'))
    const tuned = isTuned
      ? [{ name: basename(outputDir), base, path: outputDir, created: Math.floor(Date.now() / 1000) }]
      : []
    return { models, tuned }
  }
  for (const text of given) {
    // A path may have = in it, so a name is only what cannot be one.
    const [, name, from = text] = existsSync(text) ? [] : (/^([\w.:-]+)=(.+)$/.exec(text) ?? [])
    const own = name ?? modelName(from)
    if (models.has(own))
      throw new UsageError(`two models are named ${own}; name one by --model NAME=${from}.`)
    output.note(`Loading ${from}`)
    models.set(own, await loadShown(from, { ...flags, signal }, output))
  }
  return { models, tuned: [] }
}

function pairOf(text: string): [string, string] {
  const at = text.indexOf('=')
  if (at > 0 && at < text.length - 1) return [text.slice(0, at), text.slice(at + 1)]
  throw new UsageError(`--alias ${text}: expected NAME=MODEL.`)
}
