/** Names of the types of schemas, for scripts/options.mjs, which writes them. */
import * as z from 'zod'

interface TypeName {
  type: string
  from?: string
  about?: string
  always?: true
}

/** Names of types, by schema, for the types that scripts/options.mjs writes. */
export const typeNames = z.registry<TypeName>()

/**
 * Names the type of a schema.
 * @param name.from module with the type, within lib/; without it, an object's type is written beside those that use it
 * @param name.about documentation of a type that is written
 * @param name.always true if only files may lack the key
 */
export function named<Schema extends z.ZodType>(schema: Schema, name: TypeName): Schema {
  typeNames.add(schema, name)
  return schema
}
