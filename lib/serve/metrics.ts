/**
 * `GET /metrics`: what the server has counted since its start, and its state when it is asked. Labels are routes and
 * states alone, never names of models or anything that a client chooses.
 */
import { packageVersion } from '../core/root.js'
import { addon } from '../native/addon.js'
import type { Gate } from './answers.js'
import { Counts, exposition, Histogram, type Metric } from './exposition.js'
import { type JobState, type Jobs, stateOf } from './jobs.js'
import type { Memory } from './memory.js'

/** Upper bounds of durations in seconds: answers take longer than other requests. */
const DURATIONS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300]
const STATES: readonly JobState[] = [
  ...(['validating_files', 'queued', 'running', 'paused', 'succeeded', 'failed', 'cancelled'] as const),
]

/** A request that is over. */
export interface RequestSeen {
  method: string
  /** Its pattern, such as `/v1/files/:id`; `none` for a path that has no route. */
  route: string
  status: number
  milliseconds: number
}

/** Tokens of an answer. */
interface AnswerTokens {
  prompt: number
  /** Tokens of the prompt that were computed before. */
  cached: number
  completion: number
}

/** The parts of the server whose state is asked. */
interface Observed {
  gate: Gate
  jobs: Jobs
  memory: Memory
}

export class Metrics {
  readonly #began = Date.now() / 1000 - process.uptime()
  readonly #requests = new Counts()
  readonly #durations = new Histogram(DURATIONS)
  readonly #tokens: AnswerTokens = { prompt: 0, cached: 0, completion: 0 }
  readonly #training = { steps: 0, tokens: 0 }

  request({ method, route, status, milliseconds }: RequestSeen): void {
    this.#requests.add({ method, route, status: String(status) })
    this.#durations.observe({ method, route }, milliseconds / 1000)
  }

  answered({ prompt, cached, completion }: AnswerTokens): void {
    this.#tokens.prompt += prompt
    this.#tokens.cached += cached
    this.#tokens.completion += completion
  }

  /** @param tokens of an optimizer step */
  trained(tokens: number): void {
    this.#training.steps++
    this.#training.tokens += tokens
  }

  /** All metrics in Prometheus' text format. */
  text({ gate, jobs, memory }: Observed): string {
    const states = jobs.all.map(stateOf)
    const held = (['host', 'pinned', 'device'] as const).map((place) => {
      const bytes = Object.values(addon().allocated(place)).reduce((sum, one) => sum + one, 0)
      return { labels: { place }, value: bytes }
    })
    const planned = [
      { labels: { for: 'models' }, value: memory.modelBytes },
      {
        labels: { for: 'jobs' },
        value: memory.jobBytes(jobs.all.filter((job) => stateOf(job) === 'running')),
      },
    ]
    const { user, system } = process.cpuUsage()
    const counter = (name: string, help: string, value: number): Metric => ({
      ...{ name, help, type: 'counter', samples: [{ value }] },
    })
    const gauge = (name: string, help: string, ...samples: Metric['samples']): Metric => ({
      ...{ name, help, type: 'gauge', samples },
    })
    return exposition([
      {
        ...{ name: 'lowrank_http_requests_total', help: 'Requests that are over.', type: 'counter' },
        samples: this.#requests.samples,
      },
      {
        ...{ name: 'lowrank_http_request_duration_seconds', type: 'histogram' },
        help: 'Time from the head of a request to the end of its answer, streams included.',
        samples: this.#durations.samples,
      },
      counter('lowrank_prompt_tokens_total', 'Tokens of prompts.', this.#tokens.prompt),
      counter(
        'lowrank_cached_prompt_tokens_total',
        'Tokens of prompts that an earlier prompt had computed.',
        this.#tokens.cached,
      ),
      counter('lowrank_completion_tokens_total', 'Tokens of answers.', this.#tokens.completion),
      gauge('lowrank_answers_running', 'Requests that are answered now.', { value: gate.inside }),
      gauge('lowrank_answers_waiting', 'Requests that wait for an answer to end.', { value: gate.waiting }),
      gauge(
        ...(['lowrank_jobs', 'Fine-tuning jobs in the data folder.'] as const),
        ...STATES.map((status) => ({
          labels: { status },
          value: states.filter((state) => state === status).length,
        })),
      ),
      counter('lowrank_training_steps_total', 'Optimizer steps of jobs.', this.#training.steps),
      counter('lowrank_training_tokens_total', 'Tokens of these steps.', this.#training.tokens),
      gauge(
        'lowrank_memory_planned_bytes',
        'Memory that the plans of the models, and of running jobs beside them, say.',
        ...planned,
      ),
      gauge('lowrank_memory_allocated_bytes', 'Memory that tensors hold now.', ...held),
      gauge('lowrank_build_info', 'The version of lowrank and of Node.js.', {
        ...{ labels: { version: packageVersion(), node: process.version }, value: 1 },
      }),
      gauge('process_resident_memory_bytes', 'Resident memory of the process.', {
        value: process.memoryUsage.rss(),
      }),
      counter('process_cpu_seconds_total', 'Processor time of the process.', (user + system) / 1e6),
      gauge('process_start_time_seconds', 'Start of the process, in seconds since 1970.', {
        value: this.#began,
      }),
    ])
  }
}
