/** Shapes of well-known models. */
import { FAMILIES } from '../models/index.js'

/** A config.json by model name, ordered by family. */
export const SHAPES: ReadonlyMap<string, Readonly<Record<string, unknown>>> = new Map(
  FAMILIES.flatMap(({ shapes }) => Object.entries(shapes)),
)
