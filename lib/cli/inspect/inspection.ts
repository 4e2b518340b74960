import type { Printed } from '../schemas.js'

/** Result of an inspection, as data for --json (with `kind` and `path`) and as text. */
export interface Inspection {
  data: Printed<'inspect'>
  text(): string
}
