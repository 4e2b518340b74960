import type { CompareResults } from '../../../lib/compare/results.js'

/** Everything but times, loads, and the hashes over them. */
export function timeless(results: CompareResults): unknown {
  const times =
    /^(load|seconds|.*_seconds|seconds_.*|created|finished|hash|tokens_per_second|resident_bytes|command)$/
  const remarks = results.remarks.filter((remark) => !remark.startsWith('Times were measured on a busy'))
  return JSON.parse(
    JSON.stringify({ ...results, remarks }, (key, value) => (times.test(key) ? undefined : value)),
  )
}
