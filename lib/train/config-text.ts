/** Writes configs as files. Separate from the reader, since only the command line writes configs. */
import { stringify } from 'yaml'
import { toFileKeys } from '../core/schema.js'
import { configSchema, type RunConfig } from './config.js'

/** The config, or some of its keys, as YAML that reads back as the same config. */
export function configText(config: Partial<RunConfig>): string {
  return stringify(toFileKeys(configSchema, config))
}
