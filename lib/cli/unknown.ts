/** Suggests names for unknown verbs and flags, including words of other programs and config keys. */
import { type Command, CommanderError, type Option } from 'commander'
import { FOREIGN_VERBS, foreignKey } from '../core/foreign-keys.js'
import { nearest } from '../core/nearest.js'
import { UsageError } from './errors.js'

/** The error for an unknown verb. */
export function unknownVerb(verb: string, known: readonly string[]): UsageError {
  const { here, note } = Object.hasOwn(FOREIGN_VERBS, verb) ? (FOREIGN_VERBS[verb] ?? {}) : {}
  const why = here !== undefined && note !== undefined ? ` (${note})` : ''
  const close = nearest(verb, known)
  const advice = here
    ? `; the name here is ${here}${why}.`
    : note
      ? `; ${note}.`
      : close
        ? `; did you mean ${close}?`
        : '.'
  return new UsageError(`unknown command '${verb}'${advice}`)
}

/** Replaces the parser's error about an unknown word with a better one; other errors are returned unchanged. */
export async function explained(error: unknown, program: Command, args: readonly string[]): Promise<unknown> {
  if (!(error instanceof CommanderError)) return error
  const word = /'(.+)'/.exec(error.message)?.[1]
  if (word === undefined) return error
  const verbs = program.commands.map((command) => command.name())
  if (error.code === 'commander.unknownCommand') return unknownVerb(word, verbs)
  const verb = program.commands.find((command) => command.name() === args[0])
  if (verb === undefined) return error
  if (error.code === 'commander.excessArguments') return misplaced(verb) ?? error
  if (error.code !== 'commander.unknownOption') return error
  return new UsageError(`unknown option '${word}'${await flagAdvice(word, verb, args)}`)
}

/** The error for a config or a prompt that a verb takes as a flag. */
function misplaced(verb: Command): UsageError | undefined {
  const known = (flags: string[]) => flags.filter((name) => verb.options.some(({ long }) => long === name))
  const subjects = known(['--adapter', '--model'])
  if (known(['--prompt']).length > 0)
    return new UsageError(`'${verb.name()}' takes one config; give the prompt as --prompt TEXT, in quotes.`)
  if (verb.registeredArguments.length > 0 || subjects.length === 0) return undefined
  return new UsageError(
    `'${verb.name()}' takes no arguments, only flags; name what it works on with ${subjects.join(' or ')}.`,
  )
}

async function flagAdvice(flag: string, verb: Command, args: readonly string[]): Promise<string> {
  const [name = flag, attached] = flag.replace(/^-+/, '').split('=')
  const flags = verb.options.flatMap(({ long }: Option) => long ?? [])
  const own = (key: string) => flags.find((long) => plain(long) === plain(key))
  const same = own(name)
  if (same) return `; did you mean ${same}?`
  const foreign = foreignKey(name)
  for (const place of [foreign?.here ?? []].flat()) {
    const known = own(place.split('.').at(-1) as string)
    if (known) return `; the name here is ${known}.`
  }
  const following = args[args.indexOf(flag) + 1]
  const value = attached ?? (following?.startsWith('-') === false ? following : undefined)
  if (flags.includes('--set')) {
    const advice = await setAdvice(name, value)
    if (advice) return advice
  }
  if (foreign?.note && !foreign.here) return `; ${foreign.note}.`
  const close = nearest(
    name,
    flags.map((long) => long.slice(2)),
  )
  return close ? `; did you mean --${close}?` : '.'
}

/** Suggests --set for a config key. */
async function setAdvice(name: string, value: string | undefined): Promise<string | undefined> {
  // Imported on demand, so that verbs start without loading the config schemas.
  const { configKey } = await import('../train/config/config-schema.js')
  const found = configKey(name, value ?? 'true')
  return (
    found && `; it is a key of the config: --set ${found.path}=${found.value ?? value ?? '…'}${found.note}`
  )
}

const plain = (key: string): string => key.toLowerCase().replace(/[-_]/g, '')
