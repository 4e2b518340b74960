/**
 * The command line. Each verb has its own file, which is loaded only when needed, so that `--help` and small
 * verbs start quickly. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
 */
import { Command, CommanderError } from 'commander'
import { InternalError } from '../core/errors.js'
import { packageVersion } from '../core/root.js'
import { stoppingSignals } from '../core/system.js'
import { EXIT_FAILED, EXIT_USAGE, InterruptedError, reportError } from './errors.js'
import { table } from './format.js'
import { STOPPED } from './interrupt.js'
import { Output } from './output.js'
import { explained, unknownVerb } from './unknown.js'

/** Adds a verb's arguments, flags, examples and action to its command. */
export type Configure = (command: Command) => void

interface Verb {
  name: string
  summary: string
  load(): Promise<{ configure: Configure }>
}

const VERBS: readonly Verb[] = [
  {
    name: 'demo',
    summary: 'tune the bundled model in about a minute',
    load: () => import('./demo.js'),
  },
  { name: 'init', summary: 'write a config that trains on your data', load: () => import('./init.js') },
  { name: 'train', summary: 'train an adapter from a config file', load: () => import('./train.js') },
  { name: 'watch', summary: 'open the page of a run in the browser', load: () => import('./watch.js') },
  { name: 'plan', summary: 'print the memory and time of a training run', load: () => import('./plan.js') },
  { name: 'eval', summary: 'measure loss and perplexity on a dataset', load: () => import('./eval.js') },
  { name: 'generate', summary: 'answer prompts', load: () => import('./generate.js') },
  { name: 'classify', summary: 'tell the classes of texts', load: () => import('./classify.js') },
  { name: 'chat', summary: 'chat with a model', load: () => import('./chat.js') },
  {
    name: 'serve',
    summary: "train and answer behind OpenAI's clients",
    load: () => import('./serve.js'),
  },
  {
    name: 'migrate',
    summary: 'move a fine-tune of OpenAI to a model of your own',
    load: () => import('./migrate.js'),
  },
  { name: 'merge', summary: 'merge an adapter into its model', load: () => import('./merge.js') },
  {
    name: 'mcp',
    summary: 'let assistants train by the Model Context Protocol',
    load: () => import('./mcp.js'),
  },
  {
    name: 'export',
    summary: 'write a model or adapter for other programs',
    load: () => import('./export.js'),
  },
  {
    name: 'inspect',
    summary: 'show the contents of a model, adapter, checkpoint, or dataset',
    load: () => import('./inspect.js'),
  },
  {
    name: 'compare',
    summary: 'compare strategies on your model and data',
    load: () => import('./compare.js'),
  },
  { name: 'bench', summary: 'measure memory and speed', load: () => import('./bench.js') },
  { name: 'strategies', summary: 'list the training strategies', load: () => import('./strategies.js') },
  { name: 'cache', summary: 'list, check, and clear cached weights', load: () => import('./cache.js') },
  { name: 'doctor', summary: 'check the machine and the installation', load: () => import('./doctor.js') },
]

/** First commands to try. */
function firstSteps(): string {
  const lines = [
    ['demo', 'lowrank demo', 'tune the bundled model'],
    ['init', 'lowrank init train.jsonl', 'write a config for your data'],
    ['plan', 'lowrank plan --model MODEL --method qlora', 'plan the memory of a model'],
    ['train', 'lowrank train run.yaml', 'train; examples/ has configs'],
    ['help', 'lowrank help train', 'help for a command'],
  ] as const
  const known = lines.filter(([name]) => name === 'help' || VERBS.some((verb) => verb.name === name))
  return `\nGet started:\n${table(known.map(([, call, why]) => [`  $ ${call}`, why]))}`
}

async function buildProgram(args: readonly string[]): Promise<Command> {
  const program = new Command('lowrank')
    .description('Fine-tune language models on this machine, with memory planned before the first step.')
    .version(packageVersion(), '-V, --version', 'show the version')
    .helpOption('-h, --help', 'show help')
    .helpCommand('help [command]', 'show help for a command')
    .exitOverride()
    // Errors are thrown, and reported in one place.
    .configureOutput({
      writeErr: () => undefined,
      writeOut: (text) => new Output(false).text(text.trimEnd()),
    })
    .configureHelp({ showGlobalOptions: false })
    // `unknown.ts` makes better suggestions than the parser.
    .showSuggestionAfterError(false)
    .usage('<command> [options]')
    .addHelpText('after', firstSteps)
  const asked = args[0] === 'help' ? args[1] : args.find((arg) => !arg.startsWith('-'))
  for (const verb of VERBS) {
    const command = program.command(verb.name).description(verb.summary)
    command.option('--json', 'JSON on stdout: one object, or one per line')
    if (verb.name === asked) (await verb.load()).configure(command)
  }
  return program
}

async function run(args: readonly string[], output: Output): Promise<number> {
  process.on('uncaughtException', (error) => process.exit(reportError(error, output)))
  leaveWhenInterrupted(output)
  const program = await buildProgram(args)
  try {
    if (args.length === 0) {
      output.note(`${program.helpInformation().trimEnd()}\n${firstSteps()}`)
      return EXIT_USAGE
    }
    const [first, second] = args
    if (first === 'help' && second !== undefined && !VERBS.some(({ name }) => name === second)) {
      throw unknownVerb(
        second,
        VERBS.map(({ name }) => name),
      )
    }
    await program.parseAsync([...args], { from: 'user' })
    return 0
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0
    const verb = VERBS.find(({ name }) => name === args[0])
    const told = await explained(error, program, args)
    return reportError(told, output, verb ? `lowrank ${verb.name}` : 'lowrank')
  }
}

/** Handles Ctrl-C and similar signals for verbs that do not, which have no partial output to clean up. */
function leaveWhenInterrupted(output: Output): void {
  for (const name of stoppingSignals())
    process.on(name, () => {
      if (process.listenerCount(name) > 1) return
      process.exit(reportError(new InterruptedError(STOPPED), output))
    })
}

/** If stdout has no reader any more (`| head`), exits quietly. If stderr has none, work continues. */
function leaveWhenUnread(): void {
  process.stderr.on('error', () => undefined)
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    // The terminal is gone and SIGHUP will follow, whose handler saves the work first.
    if (error.code === 'EIO') return
    process.exit(error.code === 'EPIPE' ? 0 : EXIT_FAILED)
  })
}

/** Reports an error if the event loop becomes empty before the verb has ended; Node.js would exit with success. */
function failUnlessEnded(output: Output): () => void {
  const dry = () => {
    const error = new InternalError('the command ended early because a pending operation never completed.')
    process.exitCode = reportError(error, output)
  }
  process.once('beforeExit', dry)
  return () => process.off('beforeExit', dry)
}

/**
 * Runs a command line, and sets the exit code of the process.
 * @param isInterrupted true if a signal has asked the process to stop before this file was loaded
 */
export async function main(args: readonly string[], isInterrupted: boolean): Promise<void> {
  const output = new Output(args.includes('--json'))
  leaveWhenUnread()
  const ended = failUnlessEnded(output)
  const code = isInterrupted ? reportError(new InterruptedError(STOPPED), output) : await run(args, output)
  ended()
  if (code !== 0) process.exitCode = code
}
