import type { CompareResults } from '../../../lib/compare/results.js'

/** Everything but times, and the hashes over them. */
export function timeless(results: CompareResults): unknown {
  const times =
    /^(seconds|.*_seconds|seconds_.*|created|finished|hash|tokens_per_second|resident_bytes|command)$/
  return JSON.parse(JSON.stringify(results, (key, value) => (times.test(key) ? undefined : value)))
}
