/** How ranks share the work of a run. */
import { word } from '../core/schema.js'

export const SPLITS = ['rows', 'layers'] as const

/** Whether each rank trains on a share of the rows, or holds a share of the layers. */
export type Split = (typeof SPLITS)[number]

export const splitSchema = word(SPLITS)
  .default('rows')
  .describe(
    'Under `mpirun`: `rows` gives each rank the whole model and a share of the rows; `layers` gives each rank [a part of the layers](cluster.md#layers-over-ranks), for a model that fits on no single machine.',
  )
