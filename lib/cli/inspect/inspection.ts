import type { Printed } from '../schemas.js'

/** What an inspection found, as data for --json (with `kind` and `path`) and as text. */
export interface Inspection {
  data: Printed<'inspect'>
  text(): string
}
