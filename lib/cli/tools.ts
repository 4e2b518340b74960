/** The flag with the schemas of tools, for verbs that prompt a model. */
import type { Command } from 'commander'
import { toolSchemas } from '../data/prompt-tools.js'
import { readText } from '../io/input.js'
import { UsageError } from './errors.js'

const SIZE_LIMIT = 16 << 20

export function toolsFlag(command: Command): void {
  command.option('--tools <file>', 'a JSON list of tool schemas, as in the "tools" of a row of training data')
}

/** The schemas in the file of the flag. */
export async function toolsOf({ tools: path }: { tools?: string }): Promise<readonly unknown[] | undefined> {
  if (path === undefined) return undefined
  const tools = toolSchemas(await readText(path, SIZE_LIMIT))
  if (tools !== undefined && tools.length > 0) return tools
  throw new UsageError(
    `--tools ${path}: expected a JSON list of tool schemas, such as [{"type": "function", "function": {"name": "stock"}}].`,
    { path },
  )
}
