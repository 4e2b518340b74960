/** The formats that an answer may be asked to follow, as chats and responses name them. */
import * as z from 'zod'

/** Keys of a format that has a JSON schema. */
export const schemaShape = {
  name: z.string().regex(/^[\w-]{1,64}$/, 'expected at most 64 letters, digits, _ and -'),
  schema: z.unknown().optional(),
  strict: z.boolean().nullish(),
}

/** @param ofSchema the format with a schema, whose keys stand in different places */
export function formatShape<Keys extends { type: z.ZodLiteral<'json_schema'> }>(
  ofSchema: z.ZodObject<Keys, z.core.$loose>,
) {
  return z
    .discriminatedUnion(
      'type',
      [
        z.looseObject({ type: z.literal('text') }),
        z.looseObject({ type: z.literal('json_object') }),
        ofSchema,
      ],
      { error: 'expected text, json_object, or json_schema' },
    )
    .nullish()
}
