/**
 * Jobs as folders: `job.json`, written whole, beside the output folder of the run. Several servers may share them: a job
 * at work is locked by its server, and one that says so without a lock was left behind by a server that was killed.
 */
import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import * as z from 'zod'
import { ConfigError } from '../../core/errors.js'
import { writeFileWhole } from '../../io/atomic.js'
import { readJsonObject } from '../../io/input.js'
import { isId, newId } from '../../serve/ids.js'
import { runAtWork } from '../../train/folders/run-lock.js'

const RECORD = 'job.json'
const SIZE_LIMIT = 8 << 20

const STATES = ['queued', 'running', 'succeeded', 'failed', 'stopped'] as const

const recordSchema = z.object({
  id: z.string(),
  kind: z.enum(['train', 'compare']),
  /** Milliseconds since 1970. */
  created: z.number(),
  state: z.enum(STATES),
  /** Keys of a config, all paths absolute. */
  config: z.record(z.string(), z.unknown()),
  strategies: z.array(z.string()).nullable(),
  seeds: z.number().nullable(),
  minutes: z.number().nullable(),
  planned_bytes: z.number(),
  planned_seconds: z.number().nullable(),
  step: z.number(),
  total_steps: z.number().nullable(),
  loss: z.number().nullable(),
  eval_loss: z.number().nullable(),
  seconds_left: z.number().nullable(),
  /** Why it failed or stopped. */
  message: z.string().nullable(),
  code: z.string().nullable(),
  notes: z.array(z.string()),
  samples: z.array(
    z.object({ prompt: z.string(), expected: z.string(), base: z.string(), tuned: z.string() }),
  ),
  table: z.string().nullable(),
})

/** A job as it is kept. */
export type JobRecord = z.infer<typeof recordSchema>

export class JobStore {
  readonly folder: string

  constructor(folder: string) {
    this.folder = folder
  }

  /** Newest first. */
  async all(): Promise<JobRecord[]> {
    const names = await readdir(this.folder).catch((): string[] => [])
    const found = await Promise.all(
      names.filter((name) => isId('job-', name)).map((id) => this.get(id).catch(() => undefined)),
    )
    return found.filter((job) => job !== undefined).sort((a, b) => b.created - a.created)
  }

  /** @throws {ConfigError} for an id that no job has */
  async get(id: string): Promise<JobRecord> {
    const text = isId('job-', id)
      ? await readJsonObject(this.path(id, RECORD), SIZE_LIMIT).catch(() => undefined)
      : undefined
    const { success, data } = recordSchema.safeParse(text)
    if (!success) throw new ConfigError(`there is no job ${id}.`, { job: id })
    if (!isAtWork(data) || runAtWork(this.path(id)) !== undefined) return data
    return { ...data, state: 'stopped', message: data.message ?? 'its server was ended before it was done' }
  }

  async create(given: Omit<JobRecord, 'id' | 'created' | keyof typeof FRESH>): Promise<JobRecord> {
    const id = newId('job-')
    await mkdir(this.path(id), { recursive: true, mode: 0o700 })
    return {
      ...FRESH,
      ...given,
      id,
      created: Date.now(),
      config: { ...given.config, output_dir: this.path(id, 'run') },
    }
  }

  async put(record: JobRecord): Promise<void> {
    await writeFileWhole(this.path(record.id, RECORD), `${JSON.stringify(record, null, 1)}\n`)
  }

  path(id: string, ...names: readonly string[]): string {
    return join(this.folder, id, ...names)
  }
}

/** A job that has not begun. */
export const FRESH = {
  state: 'queued' as JobRecord['state'],
  ...{ step: 0, total_steps: null, loss: null, eval_loss: null, seconds_left: null },
  ...{ message: null, code: null, notes: [], samples: [], table: null },
}

export function isAtWork({ state }: Pick<JobRecord, 'state'>): boolean {
  return state === 'queued' || state === 'running'
}
