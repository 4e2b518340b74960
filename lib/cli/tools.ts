/** The flag with the schemas of tools, for verbs that prompt a model. */
import type { Command } from 'commander'
import { FileFormatError } from '../core/errors.js'
import { nameOf, toolSchemas } from '../data/prompt-tools.js'
import { readText } from '../io/input.js'
import { UsageError } from './errors.js'

const SIZE_LIMIT = 16 << 20
const EXAMPLE = '{"type": "function", "function": {"name": "stock"}}'

/** @param stdin whether `-` reads standard input */
export function toolsFlag(command: Command, stdin: boolean): void {
  const from = stdin ? ', - reads standard input' : ''
  command.option(
    '--tools <file>',
    `a JSON list of tool schemas, as in the "tools" of a row of training data${from}`,
  )
}

/**
 * The schemas in the file of the flag.
 * @param stdin whether `-` reads standard input
 */
export async function toolsOf(
  { tools: path }: { tools?: string },
  stdin: boolean,
): Promise<readonly unknown[] | undefined> {
  if (path === undefined) return undefined
  if (path === '-' && !stdin)
    throw new UsageError('--tools -: standard input holds the turns of the chat; name a file.', { path })
  const tools = toolSchemas(path === '-' ? await readStdin() : await readFile(path))
  if (tools === undefined || tools.length === 0)
    throw new UsageError(`--tools ${path}: expected a JSON list of tool schemas, such as [${EXAMPLE}].`, {
      path,
    })
  const unnamed = tools.findIndex((tool) => nameOf(tool) === undefined)
  if (unnamed < 0) return tools
  throw new UsageError(
    `--tools ${path}: tool ${unnamed + 1} of ${tools.length} has no name; expected a schema such as ${EXAMPLE}.`,
    { path, tool: unnamed + 1 },
  )
}

async function readFile(path: string): Promise<string> {
  try {
    return await readText(path, SIZE_LIMIT)
  } catch (error) {
    if (error instanceof FileFormatError)
      throw new FileFormatError(`--tools ${error.message}`, error.details, { cause: error })
    throw error
  }
}

async function readStdin(): Promise<string> {
  let text = ''
  for await (const part of process.stdin.setEncoding('utf8')) {
    text += part
    if (text.length > SIZE_LIMIT)
      throw new UsageError(`--tools -: expected at most ${SIZE_LIMIT} characters on standard input.`)
  }
  return text
}
