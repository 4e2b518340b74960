/**
 * Whose an output folder is. run.json names the run that writes there, so that its checkpoints are told from those of
 * an earlier run, and an earlier run's result is not replaced unasked.
 */
import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { ConfigError } from '../errors.js'
import { writeFileWhole } from '../files/atomic.js'
import { restoreReplaced } from '../files/atomic-folder.js'
import { readJsonObject } from '../files/input.js'
import { removeLeftovers } from '../files/temporary.js'

const FILE = 'run.json'
const VERSION = 1
const SIZE_LIMIT = 1 << 16

/** The run that an output folder belongs to; undefined where it does not say. */
export async function readRun(outputDir: string): Promise<string | undefined> {
  const about = await readJsonObject(join(outputDir, FILE), SIZE_LIMIT).catch(() => undefined)
  return typeof about?.run === 'string' ? about.run : undefined
}

/** Makes an output folder that of a run, and clears away what killed processes left half written in it. */
export async function openOutput(outputDir: string, run: string): Promise<void> {
  // What a killed run left may hold the key of its noise; beside the folder, an adapter.
  for (const folder of [outputDir, dirname(resolve(outputDir))]) await removeLeftovers(folder)
  await restoreReplaced(outputDir)
  await writeFileWhole(join(outputDir, FILE), `${JSON.stringify({ version: VERSION, run }, null, 2)}\n`)
}

/** How whoever asked can go on, in the words of the command line or of the API. */
export interface WaysOn {
  resume: string
  force: string
  elsewhere: string
}

/**
 * @param resumed the checkpoint that is to go on, if any
 * @throws {ConfigError} when a run would replace what another one has left there
 */
export async function checkOutput(
  outputDir: string,
  resumed: { path: string; state: { run: string } } | null,
  ways: WaysOn,
): Promise<void> {
  const results = await resultsIn(outputDir)
  if (results.length === 0) return
  const { resume, force, elsewhere } = ways
  const last = `${elsewhere} to keep it, or ${force} to replace it`
  const details = { outputDir, results }
  if (resumed === null) {
    const goOn = results.includes(CHECKPOINTS) ? `${resume} to go on with it, ` : ''
    throw new ConfigError(
      `${outputDir} holds ${results.join(' and ')} of an earlier run. Use ${goOn}${last}.`,
      details,
    )
  }
  const owner = await readRun(outputDir)
  const inside = resolve(dirname(resumed.path)) === resolve(outputDir)
  if (owner === undefined ? inside : owner === resumed.state.run) return
  throw new ConfigError(
    `${outputDir} holds ${results.join(' and ')} of another run than ${resumed.path}. Use ${last}.`,
    details,
  )
}

const CHECKPOINTS = 'checkpoints'

async function resultsIn(outputDir: string): Promise<string[]> {
  const has = (name: string) => existsSync(join(outputDir, name))
  const names = await readdir(outputDir).catch(() => [])
  return [
    ...(has('adapter_config.json') ? ['the adapter'] : []),
    ...(has('config.json') ? ['the model'] : []),
    ...(names.some((name) => /^checkpoint-\d+/.test(name)) ? [CHECKPOINTS] : []),
  ]
}
