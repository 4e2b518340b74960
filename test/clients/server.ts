/** A server in this process, and the environment in which OpenAI's clients find it. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { loadModel } from '../../lib/model/load.js'
import { scratchFolder } from '../lib/scratch.js'
import { callingModel } from '../lib/serve/calling.js'
import { BASE, begun } from '../lib/serve/service.js'

export interface Served {
  url: string
  env: NodeJS.ProcessEnv
  close(): Promise<void>
}

/** Serves the demo's model as `base` and `gpt-4o-mini`, and as `calling` with a template that knows tools. */
export async function served(): Promise<Served> {
  const models = new Map([
    ['base', await loadModel(BASE)],
    ['calling', await loadModel(callingModel())],
  ])
  const aliases = new Map([['gpt-4o-mini', 'base']])
  const { service } = await begun(join(scratchFolder(), 'data'), { models, aliases })
  const { url, token } = service
  const env = { ...process.env, OPENAI_BASE_URL: url, OPENAI_API_KEY: token, LOWRANK_TOKEN: token }
  return { url, env, close: () => service.close() }
}

/** What a program prints; its errors are part of the failure. */
export async function printedBy(
  [program, ...args]: [string, ...string[]],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<string> {
  const { stdout } = await promisify(execFile)(program, args, { timeout: 500_000, ...options })
  return stdout
}
