import { ConfigError } from '../core/errors.js'

/** A JSON schema that answers cannot follow. `path` is a JSON pointer to the keyword, as in `#/properties/age/not`. */
export class SchemaError extends ConfigError {
  constructor(
    readonly path: string,
    problem: string,
  ) {
    super(`The JSON schema cannot be followed: ${path}: ${problem}.`, { path })
  }
}
