/** Environment variables. Declarations of the API name this type, since programs without Node's types have no `NodeJS`. */
export type Environment = Readonly<Record<string, string | undefined>>
