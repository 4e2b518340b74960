/** How ranks share the work of a run. */
import { word } from '../core/schema.js'

export const SPLITS = ['rows', 'layers'] as const

/** Work of a rank: training on a share of the rows, or a share of the layers. */
export type Split = (typeof SPLITS)[number]

export const splitSchema = word(SPLITS)
  .default('rows')
  .describe(
    'Under `mpirun`: `rows` gives each rank the whole model and a share of the rows; `layers` gives each rank [a part of the layers](cluster.md#layers-over-ranks), for a model that fits on no single machine.',
  )
