/**
 * `lowrank mcp`: fine-tuning for assistants that speak the Model Context Protocol, over stdin and stdout. Ends when stdin
 * does, after a checkpoint of the job at work.
 */
import { resolve } from 'node:path'
import { Writable } from 'node:stream'
import type { Command } from 'commander'
import { packageVersion } from '../core/root.js'
import { UsageError } from './errors.js'
import { collect, examples } from './help.js'
import { Interruption } from './interrupt.js'
import { Output } from './output.js'

interface Options {
  allow?: string[]
  data?: string
  hub?: boolean
  json?: boolean
}

export function configure(command: Command): void {
  command.option('--allow <folder>', 'a folder that clients may read and write; may be repeated', collect)
  command.option('--data <folder>', 'folder of jobs (default: lowrank-mcp in the first of them)')
  command.option('--hub', 'also let clients name models on the Hugging Face hub')
  examples(command, ['lowrank mcp --allow ~/models --allow ~/data', 'lowrank mcp --allow . --hub'])
  command.action(async ({ allow = [], data, hub = false }: Options) => {
    if (allow.length === 0)
      throw new UsageError('name at least one folder that clients may use, as in `lowrank mcp --allow .`.')
    const { stdout, restore } = protocolOnly()
    const interruption = new Interruption(new Output(false), 'Saving a checkpoint of the job.')
    try {
      const { LowrankServer } = await import('./mcp/server.js')
      const options = { allow, hub, version: packageVersion() }
      const server = await LowrankServer.open({ ...options, data: data && resolve(data) })
      const ended = endOf(stdout, interruption.signal)
      await server.connect(process.stdin, stdout)
      await ended
      await server.close()
    } finally {
      interruption.dispose()
      restore()
    }
  })
}

/** Takes stdout for the protocol; what others print goes to stderr. */
function protocolOnly(): { stdout: Writable; restore: () => void } {
  const { stdout, stderr } = process
  const own = stdout.write
  const stream = new Writable({
    write: (bytes: Uint8Array, _encoding, done) => void own.call(stdout, bytes, undefined, done),
  })
  stdout.write = stderr.write.bind(stderr)
  return {
    stdout: stream,
    restore: () => {
      stdout.write = own
    },
  }
}

/** Waits until the client is gone, or a signal asks to end. */
async function endOf(stdout: Writable, signal: AbortSignal): Promise<void> {
  // A client that reads no more must not end the process before the checkpoint is saved.
  process.stdout.removeAllListeners('error')
  await new Promise<void>((ended) => {
    const end = () => ended()
    for (const name of ['end', 'close', 'error']) process.stdin.once(name, end)
    process.stdout.on('error', end)
    stdout.on('error', end)
    signal.addEventListener('abort', end, { once: true })
  })
}
