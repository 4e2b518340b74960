/** Identifies the current boot of the system; empty if unavailable. */
import { readFileSync } from 'node:fs'

let known: string | undefined

export function bootId(): string {
  try {
    known ??= readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  } catch {
    known = ''
  }
  return known
}
