/**
 * The folder of a migration: the split data, the run, the answers, and the results. A second call with the same settings
 * goes on with what is there.
 */
import { createHash } from 'node:crypto'
import { createReadStream, existsSync } from 'node:fs'
import { appendFile, mkdir, readdir, readFile, rm, truncate } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { ConfigError } from '../../core/errors.js'
import { writeFileWhole } from '../../io/atomic.js'
import { readJsonObject } from '../../io/input.js'
import { UsageError } from '../errors.js'
import { shortPath } from '../format.js'
import type { Split } from './split.js'

/** The settings on which the split, the run, and its answers depend. */
export interface Settings {
  /** SHA-256 of the data. */
  data: string
  /** SHA-256 of the grader; null without one. */
  grader: string | null
  /** SHA-256 of the config; null for the one that migrate writes. */
  config: string | null
  /** null: the usual model. */
  model: string | null
  strategy: string | null
  set: readonly string[]
  seed: number
  held_out: number | null
}

/** An answer to a held-out row by its number. */
export interface SavedAnswer {
  row: number
  by: 'base' | 'tuned'
  text: string
  /** True if it was cut at the limit of tokens. */
  cut: boolean
}

interface State {
  settings: Settings
  /** Folder of the run, and the name by which its model is served. */
  name: string
  split: Split
}

const STATE = 'migrate.json'
/** Left by a call that could not read the data. */
const LOCK = '.lowrank.lock'
const STATE_LIMIT = 1 << 30
const ANSWERS = 'answers.jsonl'
const FILES = {
  train: 'train.jsonl',
  heldOut: 'held-out.jsonl',
  requests: 'requests.jsonl',
  config: 'run.yaml',
  grader: 'grader.json',
  results: 'results.json',
  page: 'report.html',
}

export class MigrationFolder {
  readonly path: string
  #state: State | undefined

  private constructor(path: string, state: State | undefined) {
    this.path = path
    this.#state = state
  }

  /**
   * @param force begin anew
   * @throws {ConfigError} for a folder with a migration of other settings
   * @throws {UsageError} for one with other files
   */
  static async open(path: string, settings: Settings, force: boolean): Promise<MigrationFolder> {
    const state = await readState(path)
    if (state === undefined) {
      if (!force && existsSync(path) && (await readdir(path)).some((name) => name !== LOCK))
        throw new UsageError(
          `${shortPath(path)} exists and has no migration; name another folder with --output, or write into it with --force.`,
          { output: path },
        )
    } else if (force) await removeOld(path, state)
    else {
      const changed = changedIn(settings, state.settings)
      if (changed !== undefined)
        throw new ConfigError(
          `${shortPath(path)} has a migration with another ${changed}. Use the same to go on with it, name another folder with --output, or begin anew with --force.`,
          { output: path, changed },
        )
    }
    await mkdir(path, { recursive: true })
    return new MigrationFolder(path, force ? undefined : state)
  }

  /** The split of the data; undefined before it is made. */
  get split(): Split | undefined {
    return this.#state?.split
  }

  at(file: keyof typeof FILES): string {
    return join(this.path, FILES[file])
  }

  /** Folder of the run. */
  get runDir(): string {
    return join(this.path, this.name)
  }

  /** The name by which the tuned model is served. */
  get name(): string {
    return this.#state?.name ?? ''
  }

  /** Records the split. */
  async begin(data: string, settings: Settings, split: Split): Promise<void> {
    this.#state = { settings, name: nameOf(data), split }
    await writeFileWhole(join(this.path, STATE), `${JSON.stringify(this.#state)}\n`)
  }

  /** Answers that an earlier call has saved; a torn last one is dropped. */
  async answers(): Promise<SavedAnswer[]> {
    const path = join(this.path, ANSWERS)
    const text = await readFile(path, 'utf8').catch(() => '')
    const whole = text.slice(0, text.lastIndexOf('\n') + 1)
    if (whole.length < text.length) await truncate(path, Buffer.byteLength(whole))
    const lines = whole.split('\n').filter(Boolean)
    return lines.map((line) => JSON.parse(line) as SavedAnswer)
  }

  async saveAnswer(answer: SavedAnswer): Promise<void> {
    await appendFile(join(this.path, ANSWERS), `${JSON.stringify(answer)}\n`)
  }
}

async function readState(path: string): Promise<State | undefined> {
  if (!existsSync(join(path, STATE))) return undefined
  return (await readJsonObject(join(path, STATE), STATE_LIMIT)) as unknown as State
}

async function removeOld(path: string, { name }: State): Promise<void> {
  for (const file of [STATE, ANSWERS, ...Object.values(FILES)]) await rm(join(path, file), { force: true })
  await rm(join(path, name), { recursive: true, force: true })
}

const WORDS: Record<keyof Settings, string> = {
  data: 'content of its data',
  grader: '--grader',
  config: '--config',
  model: '--model',
  strategy: '--strategy',
  set: '--set',
  seed: '--seed',
  held_out: '--held-out',
}

function changedIn(one: Settings, other: Settings): string | undefined {
  const keys = Object.keys(WORDS) as (keyof Settings)[]
  const changed = keys.find((key) => JSON.stringify(one[key]) !== JSON.stringify(other[key]))
  return changed && WORDS[changed]
}

/** A name for a model that is trained on the data: `orders` for `data/orders.jsonl`. */
function nameOf(data: string): string {
  const stem = basename(data).replace(/\.[^.]*$/, '')
  return stem.replace(/[^\w-]+/g, '-').replace(/^-+|-+$/g, '') || 'tuned'
}

/** SHA-256 of a file. */
export async function hashOfFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const bytes of createReadStream(path)) hash.update(bytes)
  return hash.digest('hex')
}
