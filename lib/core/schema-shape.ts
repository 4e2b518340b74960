/** Introspection of schemas: the object schemas that may apply to a value, and how their keys are spelled. */
import * as z from 'zod'
import { escapeControls } from './quote.js'

export const snakeKey = (key: string): string => key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
export const camelKey = (key: string): string =>
  key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())

/**
 * True if the value has readable keys: a plain object, or a class instance with own keys; not a Date or an AbortSignal.
 */
export function isRecord(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  const isPlain = prototype === null || Object.getPrototypeOf(prototype) === null
  return isPlain || Object.keys(value).length > 0
}

/** All object schemas that may apply, through wrappers and unions. */
export function objectsIn(schema: z.ZodType): z.ZodObject[] {
  if (schema instanceof z.ZodObject) return [schema]
  const inner = unwrapped(schema)
  if (inner) return objectsIn(inner)
  return schema instanceof z.ZodUnion ? (schema.options as z.ZodType[]).flatMap(objectsIn) : []
}

/** The schemas of the key with this path, of which a union has several. */
export function schemasAt(path: readonly string[], schema: z.ZodType): z.ZodType[] {
  return path.reduce(
    (found, step) =>
      found.flatMap(objectsIn).flatMap(({ shape }) => (shape[step] as z.ZodType | undefined) ?? []),
    [schema],
  )
}

/** The schema inside a wrapper such as a default; undefined if it is not a wrapper. */
export function unwrapped(schema: z.ZodType): z.ZodType | undefined {
  if (
    schema instanceof z.ZodOptional ||
    schema instanceof z.ZodNullable ||
    schema instanceof z.ZodDefault ||
    schema instanceof z.ZodPrefault
  )
    return schema.unwrap() as z.ZodType
  return undefined
}

/** True if the discriminator fields of a union member match the value. */
export function agrees({ shape }: z.ZodObject, value: Record<string, unknown>): boolean {
  return Object.entries(shape).every(
    ([name, schema]) => !(schema instanceof z.ZodLiteral) || schema.value === value[name],
  )
}

export function shorten(shown: string): string {
  return escapeControls(shown.length > 80 ? `${shown.slice(0, 77)}...` : shown)
}
