/** Class names of a classifier. */
import * as z from 'zod'
import { text } from '../core/schema.js'

const LABELS = 'a list of at least two names, all different'
export const labelsSchema = z
  .array(text(), { error: LABELS })
  .min(2, { error: LABELS })
  .max(10_000, { error: 'at most 10000 names' })
  .refine((names) => new Set(names).size === names.length, { error: LABELS })
