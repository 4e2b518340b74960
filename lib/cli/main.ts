#!/usr/bin/env node
/**
 * The command line. One file per verb beside this one, loaded only when its verb is asked for, so that `--help` and
 * small verbs start at once. Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Command, CommanderError } from 'commander'
import { packageRoot } from '../root.js'
import { EXIT_FAILED, EXIT_USAGE, reportError } from './errors.js'
import { Output } from './output.js'

/** Adds a verb's arguments, flags, examples and action to its command. */
export type Configure = (command: Command) => void

interface Verb {
  name: string
  summary: string
  load(): Promise<{ configure: Configure }>
}

const VERBS: readonly Verb[] = [
  { name: 'train', summary: 'train an adapter from a config file', load: () => import('./train.js') },
  { name: 'plan', summary: 'show the memory that training takes', load: () => import('./plan.js') },
  { name: 'eval', summary: 'measure loss and perplexity on a dataset', load: () => import('./eval.js') },
  { name: 'generate', summary: 'answer prompts', load: () => import('./generate.js') },
  { name: 'chat', summary: 'talk with a model', load: () => import('./chat.js') },
  { name: 'merge', summary: 'merge an adapter into its model', load: () => import('./merge.js') },
  {
    name: 'inspect',
    summary: 'show what is in a model, adapter, checkpoint or dataset',
    load: () => import('./inspect.js'),
  },
  { name: 'strategies', summary: 'list the ways to train', load: () => import('./strategies.js') },
  { name: 'doctor', summary: 'check this machine and installation', load: () => import('./doctor.js') },
]

function version(): string {
  const text = readFileSync(join(packageRoot, 'package.json'), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}

async function buildProgram(args: readonly string[]): Promise<Command> {
  const program = new Command('lowrank')
    .description('Fine-tunes language models on this machine, with the memory known before the first step.')
    .version(version(), '-V, --version', 'show the version')
    .helpOption('-h, --help', 'show help')
    .helpCommand('help [verb]', 'show the help of a verb')
    .exitOverride()
    // Errors are thrown and reported in one place.
    .configureOutput({ writeErr: () => undefined })
    .configureHelp({ showGlobalOptions: false })
    .usage('<verb> [options]')
  const asked = args[0] === 'help' ? args[1] : args.find((arg) => !arg.startsWith('-'))
  for (const verb of VERBS) {
    const command = program.command(verb.name).description(verb.summary)
    command.option('--json', 'JSON on stdout: one object, or one per line')
    if (verb.name === asked) (await verb.load()).configure(command)
  }
  return program
}

async function run(args: readonly string[]): Promise<number> {
  const output = new Output(args.includes('--json'))
  process.on('uncaughtException', (error) => process.exit(reportError(error, output)))
  try {
    const program = await buildProgram(args)
    if (args.length === 0) {
      output.note(program.helpInformation().trimEnd())
      return EXIT_USAGE
    }
    await program.parseAsync([...args], { from: 'user' })
    return 0
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0
    return reportError(error, output)
  }
}

/** A reader that has had enough (`| head`) is no failure worth a message. */
function leaveWhenUnread(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    process.exit(error.code === 'EPIPE' ? 0 : EXIT_FAILED)
  })
}

leaveWhenUnread()
run(process.argv.slice(2)).then((code) => {
  if (code !== 0) process.exitCode = code
})
