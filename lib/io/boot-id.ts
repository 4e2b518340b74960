/** Tells this start of the system from others; empty where the system does not say. */
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
