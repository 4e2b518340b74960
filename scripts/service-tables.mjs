/** The figures of docs/serve.md, from benchmarks/results. */
import { readFileSync } from 'node:fs'
import { table, withMarked } from './markdown.mjs'

const resultOf = (name) =>
  JSON.parse(readFileSync(new URL(`../benchmarks/results/${name}.json`, import.meta.url), 'utf8'))

const source = ({ command, machine, date }) => `<sup>\`${command}\`; ${machine}, ${date}.</sup>`
const fixed = (value, digits) => value.toFixed(digits)

function load() {
  const found = resultOf('service')
  const mib = found.resident_bytes.map((bytes) => bytes / 2 ** 20)
  const filled = Math.ceil(0.6 * mib.length)
  const rows = [
    [
      `answers lost, of ${found.requests} to ${found.adapters} adapters, ${found.at_once} at once beside a job`,
      found.lost,
    ],
    ['answers other than the one that the prompt gets alone', found.changed],
    ['half of them took at most', `${fixed(found.p50_ms / 1000, 2)} s`],
    ['99 % of them took at most', `${fixed(found.p99_ms / 1000, 2)} s`],
    [
      // It grows until answers have touched all of the cache that is planned at the start.
      `memory of the process after 100, ${100 * filled}, and all answers`,
      `${[0, filled - 1, mib.length - 1].map((at) => fixed(mib[at], 0)).join(', ')} MiB`,
    ],
    ['steps that the job made meanwhile', found.job_steps],
    ['one token, for the adapter of the request before', `${fixed(found.one_token_ms, 1)} ms`],
    ['the same, for another adapter', `${fixed(found.one_token_ms + found.switch_ms, 1)} ms`],
    [
      `one token after ${found.prompt_tokens} tokens of prompt, computed anew`,
      `${fixed(found.prefix_anew_ms, 0)} ms`,
    ],
    [`the same with ${found.cached_tokens} of them kept`, `${fixed(found.prefix_later_ms, 0)} ms`],
  ]
  return `${table(['', ''], rows)}\n\n${source(found)}`
}

function throughput() {
  const found = resultOf('peers-serve')
  const rows = found.rows.map(({ name, one, many }) => {
    const ratio = found.ratios.find((each) => each.name === name)
    const of = (rate, range) => (range === undefined ? fixed(rate, 1) : `${fixed(rate, 1)}, ${range}`)
    return [name, of(one, ratio?.one), of(many, ratio?.many)]
  })
  const head = ['server', 'one chat', `${found.texts} chats at once`]
  return `${table(head, rows)}\n\n${source(found)}`
}

function fromEmpty() {
  const found = resultOf('from-empty')
  const rows = found.steps.map(({ command, seconds }) => [`\`${command}\``, `${fixed(seconds, 0)} s`])
  return `${table(['', ''], rows)}\n\n${source(found)}`
}

export const withServiceTables = (page) =>
  withMarked(page, 'docs/serve.md', { 'from empty': fromEmpty(), load: load(), throughput: throughput() })
