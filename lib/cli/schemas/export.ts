/** Output of `lowrank export --json`. */
import * as z from 'zod'
import { EXPORT_FORMATS } from '../../export/options.js'
import { printed as merged } from './merge.js'

export const printed = merged.extend({
  format: z.enum(EXPORT_FORMATS),
  remarks: z
    .array(z.string())
    .describe('Differences in how other programs use the written files; usually empty'),
})
