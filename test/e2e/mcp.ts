/** `lowrank mcp` as hosts start it, asked by the official client. */
import { cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'
import { scratchFolder } from '../lib/scratch.js'
import { rowsOf } from '../lib/serve/service.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
export const main = join(root, 'dist', 'esm', 'cli', 'main.js')

/** Small steps, so that a job takes seconds. */
export const SMALL = {
  strategy: { name: 'lora', r: 4 },
  ...{ max_seq_length: 64, per_device_train_batch_size: 2, packing: false, learning_rate: 5e-3 },
}
export const BUDGET = { minutes: 10, memory: '4GiB' }

/** A folder as a user allows it: the demo's model and rows. */
export function workplace(rows = 40): string {
  const folder = join(scratchFolder(), 'work')
  mkdirSync(folder, { recursive: true })
  cpSync(join(root, 'demo', 'base'), join(folder, 'base'), { recursive: true })
  writeFileSync(join(folder, 'rows.jsonl'), rowsOf(rows))
  return folder
}

// biome-ignore lint/suspicious/noExplicitAny: each tool has its own, which the client checks against its schema.
export type Answer = Record<string, any>

export interface Asked {
  client: Client
  transport: StdioClientTransport
  /** Calls a tool that must answer. */
  call(name: string, args: object, options?: object): Promise<Answer>
  /** Calls a tool that must refuse. */
  refused(name: string, args: object): Promise<string>
  stderr(): string
}

export async function begun(
  folder: string,
  {
    args = [],
    env = {},
    capabilities = {},
    prepare = () => undefined,
  }: {
    args?: string[]
    env?: Record<string, string>
    capabilities?: object
    prepare?: (client: Client) => void
  } = {},
): Promise<Asked> {
  const inherited = Object.entries(process.env).filter(([name]) =>
    /^(LOWRANK_|PATH$|HOME$|TMPDIR$)/.test(name),
  )
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: [main, 'mcp', '--allow', folder, ...args],
    env: { ...(Object.fromEntries(inherited) as Record<string, string>), ...env },
    stderr: 'pipe',
  })
  let stderr = ''
  transport.stderr?.on('data', (bytes) => {
    stderr += bytes
  })
  const client = new Client({ name: 'test', version: '1' }, { capabilities })
  prepare(client)
  await client.connect(transport)
  const ask = (name: string, given: object, options: object = {}) =>
    client.callTool({ name, arguments: { ...given } }, undefined, options)
  return {
    ...{ client, transport, stderr: () => stderr },
    async call(name, given, options) {
      const { isError, structuredContent, content } = await ask(name, given, options)
      if (isError) throw new Error(JSON.stringify(content))
      return structuredContent as Answer
    },
    async refused(name, given) {
      const { isError, content } = await ask(name, given)
      if (!isError) throw new Error(`${name} did not refuse ${JSON.stringify(given)}`)
      return (content as { text: string }[]).map(({ text }) => text).join('\n')
    },
  }
}
